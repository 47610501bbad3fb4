"""Converts calls of ``torch.nn.functional.scaled_dot_product_attention`` to :class:`AttentionCall`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.interception.autocast import as_computed
from attnbench.interception.call import AttentionCall
from attnbench.interception.heads import shared_heads

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench.interception.kind import Kind


def sdpa_call(
    original: Callable[..., Tensor],
    layer: str | None,
    kind: Kind | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Return the call with these arguments; ``is_causal`` is aligned to the top left corner, as torch documents.

    Axes before the heads are merged into the batch, which is 1 if there are none. Keys that were repeated for each
    query head of a group are returned once.

    Args:
        original: ``scaled_dot_product_attention`` itself.
        layer: name of the module that calls it.
        kind: the kind of a call with these arguments, if it is needed.
        query: (..., heads_q, seqlen_q, head_dim).
        key: (..., heads_kv, seqlen_kv, head_dim).
        value: (..., heads_kv, seqlen_kv, head_dim_v).
        attn_mask: bool, true where a key is visible, or floats to add; broadcastable to (..., seqlen_q, seqlen_kv).
        dropout_p: probability that a weight is dropped.
        is_causal: whether a query sees only the keys up to its own index.
        scale: scale of the scores; default ``1 / sqrt(head_dim)``.
        enable_gqa: whether several query heads may share a key head.

    Raises:
        RuntimeError, ValueError: if the shapes do not fit attention; the original function explains why.
    """

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return _four_axes(out)

    # torch's function of this name imports SymPy, which takes seconds.
    lead = np.broadcast_shapes(*(x.shape[:-3] if x.dim() > 2 else () for x in (query, key, value)))
    q, k, v = (_four_axes(_broadcast(x, lead)) for x in (query, key, value))
    if q.shape[1] % k.shape[1] or k.shape[1] != v.shape[1] or (q.shape[1] != k.shape[1] and not enable_gqa):
        raise ValueError(f"{q.shape[1]} heads of queries, {k.shape[1]} of keys, {v.shape[1]} of values")
    k, v = shared_heads(k, v)
    return AttentionCall(
        q=as_computed(q),
        k=as_computed(k),
        v=as_computed(v),
        scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale,
        mask=None if attn_mask is None else _mask(attn_mask, lead),
        causal="top_left" if is_causal else None,
        dropout=dropout_p,
        layer=layer,
        api="sdpa",
        kind=kind if q is query and k is key and v is value else None,
        given=(query, key, value),
        run=run,
    )


def _broadcast(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Expand the axes before the heads to ``lead``."""
    return x if x.shape[:-3] == lead else x.expand(*lead, *x.shape[-3:])


def _four_axes(x: Tensor) -> Tensor:
    """Merge the axes before the last three into one."""
    if x.dim() == 4:
        return x
    return x.reshape(-1, *x.shape[-3:]) if x.dim() > 4 else x[(None,) * (4 - x.dim())]


def _mask(mask: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Give a mask four axes; the batch axis may stay 1."""
    if mask.dim() <= 4 and len(lead) <= 1:
        return mask[(None,) * (4 - mask.dim())]
    return _four_axes(mask.expand(*lead, *mask.shape[-3:]) if mask.dim() >= 3 else mask)
