"""One attention call of a model, whatever API it went through."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench.interception.kind import Kind

Api = Literal["transformers", "sdpa", "flex_attention", "matmul"]
"""transformers' attention interface, ``scaled_dot_product_attention``, FlexAttention, or products around a softmax in
plain torch."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AttentionCall:
    """A model's request: ``softmax(scale Q K^T, changed and masked) V``.

    A key is seen where ``mask``, ``causal`` and ``window`` all show it. The fields are what the model meant and handed
    over; :func:`attnbench.interception.described.described` says them as a case's.
    """

    q: Tensor
    """(batch, heads_q, seqlen_q, head_dim)."""
    k: Tensor
    """(batch, heads_kv, seqlen_kv, head_dim); ``heads_q`` is a multiple of ``heads_kv``."""
    v: Tensor
    """(batch, heads_kv, seqlen_kv, head_dim_v)."""
    scale: float
    """The factor of the scores."""
    mask: Tensor | None = None
    """Boolean, true where a query sees a key, or of floats, added to the scores; four axes, broadcastable to (batch,
    heads_q, seqlen_q, seqlen_kv)."""
    causal: Literal["top_left", "bottom_right"] | None = None
    """The corner that the diagonal meets; a query sees keys up to the diagonal."""
    window: int | None = None
    """How many keys up to its own position a query sees, that one included; only where the mask does not say it."""
    bias: Tensor | None = None
    """Floats that are added to the scores; shaped as a mask."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``, after scaling and before bias and mask."""
    sinks: Tensor | None = None
    """(heads_q,): scores of a key without a value, which every query sees."""
    dropout: float = 0.0
    """Share of probabilities that are dropped, at random."""
    layer: str | None = None
    """Name of the module that calls, as of the outermost module's ``named_modules``; ``None`` outside of modules."""
    api: Api
    given: tuple[Tensor, ...]
    """The arguments of ``run``: queries, keys and values as the model hands them over; of ``matmul`` values alone."""
    run: Callable[..., Tensor]
    """Runs what the model would have run, of ``given`` or of tensors in their places: (batch, heads_q, seqlen_q,
    head_dim_v)."""
    earlier: tuple[Tensor, ...] = ()
    """Queries and keys of ``matmul``, whose scores and probabilities are there by then; else empty."""
    spent_ns: int = 0
    """Time that computing those scores and probabilities took."""
    kind: Kind | None = None
    """The kind that the call is of; ``None`` where queries, keys and values are not ``given`` as they are."""

    @property
    def needs_gradients(self) -> bool:
        """Whether the output is part of a graph that gradients go back through."""
        import torch

        return torch.is_grad_enabled() and any(x.requires_grad for x in (self.q, self.k, self.v))

    def original(self) -> Tensor:
        """Run what the model would have run.

        Returns:
            (batch, heads_q, seqlen_q, head_dim_v).
        """
        return self.run(*self.given)
