"""The two callbacks of an interception: one answers attention calls, one receives what could not be read as a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.interception.call import AttentionCall

Handler = Callable[["AttentionCall"], "Tensor"]
"""Answers a call: (batch, heads_q, seqlen_q, head_dim_v), in the dtype of ``q``."""
Unmatched = Callable[[str, str], None]
"""Told of attention, and of why it cannot be said as an :class:`AttentionCall`; it has run as the model asks."""


def ignore(what: str, reason: str) -> None:
    """Forget what was not matched."""
    del what, reason
