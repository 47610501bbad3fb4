"""The two callbacks of an interception: one answers attention calls, one receives what could not be read as a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.interception.call import AttentionCall


class Handler(Protocol):
    """Answers a call: (batch, heads_q, seqlen_q, head_dim_v), in the dtype of ``q``."""

    def __call__(self, call: AttentionCall, /) -> Tensor: ...  # noqa: D102 - as the class says


class Unmatched(Protocol):
    """Told of attention that was seen and cannot be said as an :class:`AttentionCall`; it has run as the model asks."""

    def __call__(self, what: str, reason: str) -> None: ...  # noqa: D102 - as the class says


def ignore(what: str, reason: str) -> None:
    """Forget what was not matched."""
    del what, reason
