"""Describes a call as a case, exactly or not at all."""

from attnbench.interception.described.known_masks import KnownMasks
from attnbench.interception.described.spec import CallSpec, Reason, described

__all__ = ["CallSpec", "KnownMasks", "Reason", "described"]
