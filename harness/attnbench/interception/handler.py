"""The two callbacks of an interception: for attention calls, and for attention that could not be understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.interception.call import AttentionCall

Handler = Callable[["AttentionCall"], "Tensor"]
"""Answers a call: (batch, heads_q, seqlen_q, head_dim_v), in the dtype of ``q``."""
Unmatched = Callable[[str, str], None]
"""Receives a description of attention and the reason why it is not an :class:`AttentionCall`; the original has run."""


def ignore(what: str, reason: str) -> None:
    """Ignore attention that was not understood."""
    del what, reason
