"""Inputs of a call, in the framework, layout and strides that the implementation declared."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of torch, or an array of NumPy or JAX."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operands:
    """All inputs of a case. Inputs that it lacks are ``None``; shapes are those of the declared layout.

    ``q``, ``k`` and ``v`` are rewritten in place between calls, so a plan may keep references to them but never values
    computed from them. With ``kv_cache = "paged"``, ``k`` and ``v`` are pages of shape (pages, page_size, heads_kv,
    dim), and ``block_table``, int32 of shape (batch, pages per sequence), lists the pages of each sequence. Of
    a ragged batch it is (requests, most pages of one); short rows are filled up with a page of NaN. With ``"latent"``,
    ``v`` is a view of the first ``head_dim_v`` columns of ``k``.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor | None = None
    relative_bias: Tensor | None = None
    """(heads_q, 32), float32 (float64 for float64 cases), whatever the case's dtype."""
    sinks: Tensor | None = None
    """(heads_q,), float32 (float64 for float64 cases): a logit per head that takes weight but has no value."""
    bias: Tensor = None
    """With ``bias_grad``, the bias whose gradient is returned: in the case's dtype, four axes, broadcastable to (batch,
    heads_q, seqlen_q, seqlen_kv) in every layout. It is always the same tensor, which torch's autograd identifies."""
    dropout_seed: Tensor = None
    """With ``dropout``, a NumPy array with one integer, rewritten in place with the inputs: each call seeds its own
    generator with it to draw the dropped weights."""
    block_table: Tensor | None = None
    k_scale: Tensor = None
    """With a ``kv_dtype``, ``k`` and ``v`` are stored values, and a row of ``k`` means ``k * k_scale``. It is float32,
    with the shape of ``k`` without its last axis, such as (batch, heads_kv, seqlen_kv). Rewritten in place as ``k``."""
    v_scale: Tensor = None
    w_q: Tensor | None = None
    w_k: Tensor | None = None
    w_v: Tensor | None = None
    w_o: Tensor | None = None
