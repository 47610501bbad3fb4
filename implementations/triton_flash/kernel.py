"""The kernel of ``triton/flash``. Imported by the call that needs it, never by a listing."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]  # Triton publishes no types
def forward(
    q_ptr: Any, k_ptr: Any, v_ptr: Any, out_ptr: Any, lse_ptr: Any, low_ptr: Any, high_ptr: Any,
    q_batch: Any, q_head: Any, q_row: Any, q_dim: Any,
    k_batch: Any, k_head: Any, k_row: Any, k_dim: Any,
    v_batch: Any, v_head: Any, v_row: Any, v_dim: Any,
    heads_q: Any, group: Any, seqlen_q: Any, seqlen_kv: Any, head_dim: Any, head_dim_v: Any, scale_log2: Any,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
) -> None:  # fmt: skip
    """One block of rows of one head.

    ``q_ptr`` (batch, heads_q, seqlen_q, head_dim), ``k_ptr`` (batch, heads_kv, seqlen_kv, head_dim) and ``v_ptr``
    (batch, heads_kv, seqlen_kv, head_dim_v) have the strides ``q_batch`` to ``v_dim``, in elements. ``out_ptr``
    (batch, heads_q, seqlen_q, head_dim_v) and ``lse_ptr`` (batch, heads_q, seqlen_q), float32, are contiguous.
    ``low_ptr`` and ``high_ptr`` (batch, seqlen_q), int32, are the first key that a row sees and the first one beyond.
    ``scale_log2`` is the scale times log2(e), because exp2 is what the hardware has. ``BLOCK_M`` rows meet ``BLOCK_N``
    keys at a time; ``BLOCK_D`` and ``BLOCK_DV`` are the head dims, rounded up to powers of two.
    """
    pair = tl.program_id(1)
    batch, head = (pair // heads_q).to(tl.int64), (pair % heads_q).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims, dims_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    is_row = rows < seqlen_q

    # The mask: the rows' own bounds, and those of the block, outside of which no row sees anything.
    low = tl.load(low_ptr + batch * seqlen_q + rows, mask=is_row, other=0)
    high = tl.load(high_ptr + batch * seqlen_q + rows, mask=is_row, other=0)
    first = tl.min(tl.where(low < high, low, seqlen_kv), 0)
    beyond = tl.max(tl.where(low < high, high, 0), 0)

    q_rows = q_ptr + batch * q_batch + head * q_head + rows[:, None] * q_row + dims[None, :] * q_dim
    q = tl.load(q_rows, mask=is_row[:, None] & (dims[None, :] < head_dim), other=0.0)  # (BLOCK_M, BLOCK_D)
    k_start = k_ptr + batch * k_batch + head // group * k_head
    v_start = v_ptr + batch * v_batch + head // group * v_head

    maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_M], tl.float32)
    total = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)
    for start in range(first // BLOCK_N * BLOCK_N, beyond, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        is_key = keys < seqlen_kv
        k = tl.load(
            k_start + keys[None, :] * k_row + dims[:, None] * k_dim,
            mask=is_key[None, :] & (dims[:, None] < head_dim),
            other=0.0,
        )  # (BLOCK_D, BLOCK_N)
        scores = tl.dot(q, k, input_precision="ieee") * scale_log2  # (BLOCK_M, BLOCK_N)
        visible = (keys[None, :] >= low[:, None]) & (keys[None, :] < high[:, None])
        scores = tl.where(visible, scores, float("-inf"))

        # Online softmax: when the maximum of a row grows, what was summed so far is scaled down to it.
        highest = tl.maximum(maximum, tl.max(scores, 1))
        finite = tl.where(highest == float("-inf"), 0.0, highest)  # -inf - -inf would be NaN
        powers = tl.exp2(scores - finite[:, None])
        decay = tl.exp2(maximum - finite)
        weight = weight * decay + tl.sum(powers, 1)
        v = tl.load(
            v_start + keys[:, None] * v_row + dims_v[None, :] * v_dim,
            mask=is_key[:, None] & (dims_v[None, :] < head_dim_v),
            other=0.0,
        )  # (BLOCK_N, BLOCK_DV)
        total = total * decay[:, None] + tl.dot(powers.to(v.dtype), v, input_precision="ieee")
        maximum = highest

    # A row that sees nothing: output 0 / 1, LSE -inf + log2(1).
    weight = tl.where(weight == 0.0, 1.0, weight)
    row_of_all = pair.to(tl.int64) * seqlen_q + rows
    tl.store(lse_ptr + row_of_all, (maximum + tl.log2(weight)) * 0.6931471805599453, mask=is_row)
    tl.store(
        out_ptr + row_of_all[:, None] * head_dim_v + dims_v[None, :],
        (total / weight[:, None]).to(out_ptr.dtype.element_ty),
        mask=is_row[:, None] & (dims_v[None, :] < head_dim_v),
    )
