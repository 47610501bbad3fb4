"""An attention call of a model, independent of the API that the model used."""

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
    """A model's request for ``softmax(scale Q K^T, modified and masked) V``.

    A key is visible if ``mask``, ``causal`` and ``window`` all show it. The fields are what the model passed and meant;
    :func:`attnbench.interception.described.described` translates them to a case's.
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
    """Boolean, true where a query sees a key, or floats, added to the scores; four axes, broadcastable to (batch,
    heads_q, seqlen_q, seqlen_kv)."""
    causal: Literal["top_left", "bottom_right"] | None = None
    """The corner of the score matrix that the diagonal meets; a query sees keys up to the diagonal."""
    window: int | None = None
    """Number of keys that a query sees up to its own position, included; ``None`` if the mask holds the window."""
    bias: Tensor | None = None
    """Floats that are added to the scores; shaped like a mask."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``, after scaling and before bias and mask."""
    sinks: Tensor | None = None
    """(heads_q,): score of an extra key without a value that every query sees."""
    dropout: float = 0.0
    """Probability that an attention weight is dropped."""
    layer: str | None = None
    """Name of the calling module in the outermost module's ``named_modules``; ``None`` outside of modules."""
    api: Api
    given: tuple[Tensor, ...]
    """The arguments of ``run``: queries, keys and values as the model passed them; for ``matmul`` the values alone."""
    run: Callable[..., Tensor]
    """Runs the model's own attention on ``given`` or on other tensors in their place: (batch, heads_q, seqlen_q,
    head_dim_v)."""
    earlier: tuple[Tensor, ...] = ()
    """Queries and keys for ``matmul``, whose scores and probabilities the model has computed by then; else empty."""
    spent_ns: int = 0
    """Time that computing those scores and probabilities took."""
    kind: Kind | None = None
    """The kind of the call; ``None`` if queries, keys and values are not passed as ``given``."""

    @property
    def needs_gradients(self) -> bool:
        """Whether autograd records the call, so that gradients may flow back to Q, K or V."""
        import torch

        return torch.is_grad_enabled() and any(x.requires_grad for x in (self.q, self.k, self.v))

    def original(self) -> Tensor:
        """Run the model's own attention.

        Returns:
            (batch, heads_q, seqlen_q, head_dim_v).
        """
        return self.run(*self.given)
