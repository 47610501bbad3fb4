"""The backward kernels of ``triton/flash``: weights are recomputed from the LSE, block by block.

Dao, "FlashAttention-2" (2023), algorithm 2, in two passes: dK and dV stay with a block of keys while queries stream
past, dQ stays with a block of queries while keys stream past. So scores are computed twice (seven matrix products
instead of five), but there are no atomic additions, and equal inputs always give equal bits.

A weight is ``exp2((score - LSE) * log2(e))``. FlashAttention-2 uses one multiply-add instead, of the product and the
LSE times log2(e). But rounding that LSE causes an error of u abs(LSE) in every weight of a row, and here no sum of
weights with the same error follows that cancels it, as in the forward pass. The cost is one multiplication per weight,
compared with 3 or 4 products over the head dim.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    ALL,
    BLOCKS,
    LISTED,
    LOG2_E,
    SOFTCAP,
    block_at,
    key_range,
    load_tile,
    modified,
    product,
    query_range,
    rounded,
    store_tile,
    tanh,
    visible,
)


@triton.jit
def deltas(
    out_ptr, dout_ptr, delta_ptr, out_strides, dout_strides, size,
    BLOCK_M: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Sum output times upstream gradient along each row: the term that the softmax's gradient subtracts.

    Args:
        out_ptr, dout_ptr: (batch, heads_q, seqlen_q, head_dim_v) with their strides.
        delta_ptr: (batch, heads_q, seqlen_q), float32, contiguous. Grid (blocks of queries, batch * heads_q).
    """
    start_m, pair = tl.program_id(0) * BLOCK_M, tl.program_id(1)
    batch, head = pair // size.heads_q, pair % size.heads_q
    out = load_tile(
        out_ptr, out_strides, batch, head, start_m, size.seqlen_q, size.head_dim_v,
        BLOCK_M, BLOCK_DV, False, False, False,
    )  # fmt: skip
    dout = load_tile(
        dout_ptr, dout_strides, batch, head, start_m, size.seqlen_q, size.head_dim_v,
        BLOCK_M, BLOCK_DV, False, False, False,
    )  # fmt: skip
    rows = start_m + tl.arange(0, BLOCK_M)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    tl.store(delta_ptr + tl.cast(pair, tl.int64) * size.seqlen_q + rows, delta, mask=rows < size.seqlen_q)


@triton.jit
def slope_of(raw, scoring):
    """Return the derivative of a capped score."""
    capped = tanh(raw * (scoring.scale / scoring.softcap))
    return 1.0 - capped * capped


@triton.jit
def dk_dv(
    q_src, k_src, v_src, dout_src, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    first_ptr, beyond_ptr, pattern_ptr, q_strides, k_strides, v_strides, dout_strides,
    size, scoring,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    RULE: tl.constexpr, MOD: tl.constexpr, EVEN_QUERIES: tl.constexpr,
    EVEN_DIM: tl.constexpr, EVEN_DIM_V: tl.constexpr,
    TMA: tl.constexpr, PRECISION: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """Compute dK and dV of one block of ``BLOCK_N`` keys of one head; grid (blocks of keys, batch * heads_kv).

    Tiles are transposed, (BLOCK_N, BLOCK_M): keys stay, queries of all heads of the group stream past.

    Args:
        q_src, k_src, v_src, dout_src: pointers with strides, or descriptors with ``TMA``.
        lse_ptr, delta_ptr: (batch, heads_q, seqlen_q), float32, contiguous.
        dk_ptr, dv_ptr: (batch, heads_kv, seqlen_kv, dim), contiguous.
        first_ptr, beyond_ptr: see :func:`queries_of`; with ``BLOCKS``, a list of ``lists.py`` and its patterns.
        EVEN_QUERIES: ``seqlen_q`` is a multiple of ``BLOCK_M``.
    """
    start_n, pair = tl.program_id(0) * BLOCK_N, tl.program_id(1)  # the first keys are seen by most queries
    heads_kv = size.heads_q // size.group
    batch, head_kv = pair // heads_kv, pair % heads_kv
    keys = start_n + tl.arange(0, BLOCK_N)
    first, beyond, begin, full, edge, end = query_range(
        first_ptr, beyond_ptr, batch, start_n, size, RULE, BLOCK_N, BLOCK_M
    )

    k = load_tile(
        k_src, k_strides, batch, head_kv, start_n, size.seqlen_kv, size.head_dim, BLOCK_N, BLOCK_D, False, EVEN_DIM, TMA
    )
    v = load_tile(
        v_src, v_strides, batch, head_kv, start_n, size.seqlen_kv, size.head_dim_v,
        BLOCK_N, BLOCK_DV, False, EVEN_DIM_V, TMA,
    )  # fmt: skip
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_DV], tl.float32)
    for member in range(size.group):
        head = head_kv * size.group + member
        row_of_all = (tl.cast(batch, tl.int64) * size.heads_q + head) * size.seqlen_q
        for stretch in tl.static_range(3):
            if stretch == 0:
                here, there = begin, full
            elif stretch == 1:
                here, there = full, edge
            else:
                here, there = edge, end
            if (stretch == 0 and RULE != ALL) or (
                RULE < BLOCKS and (stretch == 1 or (stretch == 2 and not (RULE == ALL and EVEN_QUERIES)))
            ):
                for place in tl.range(here, there, 1 if RULE == BLOCKS else BLOCK_M):
                    start_m, pattern = block_at(beyond_ptr, place, RULE)
                    q = load_tile(
                        q_src, q_strides, batch, head, start_m, size.seqlen_q, size.head_dim,
                        BLOCK_M, BLOCK_D, stretch == 1, EVEN_DIM, TMA,
                    )  # fmt: skip
                    rows = start_m + tl.arange(0, BLOCK_M)
                    # An LSE of +inf gives rows past the end a weight of 0.
                    lse = tl.load(lse_ptr + row_of_all + rows, mask=rows < size.seqlen_q, other=float("inf"))
                    delta = tl.load(delta_ptr + row_of_all + rows, mask=rows < size.seqlen_q, other=0.0)
                    raw = product(k, tl.trans(q), tl.zeros([BLOCK_N, BLOCK_M], tl.float32), PRECISION, DROP)
                    scores = modified(raw, rows[None, :], keys[:, None], head, size, scoring, MOD)
                    weights = tl.exp2((scores - lse[None, :]) * LOG2_E)  # (BLOCK_N, BLOCK_M)
                    if stretch != 1:
                        is_visible = visible(
                            first, beyond, rows, pattern_ptr, pattern, RULE, BLOCK_N, BLOCK_M, 1, BLOCK_N
                        )
                        weights = tl.where(is_visible, weights, 0.0)
                    dout = load_tile(
                        dout_src, dout_strides, batch, head, start_m, size.seqlen_q, size.head_dim_v,
                        BLOCK_M, BLOCK_DV, stretch == 1, EVEN_DIM_V, TMA,
                    )  # fmt: skip
                    dv = product(rounded(weights, dout, DROP), dout, dv, PRECISION, DROP)
                    dweights = product(v, tl.trans(dout), tl.zeros([BLOCK_N, BLOCK_M], tl.float32), PRECISION, DROP)
                    dscores = weights * (dweights - delta[None, :])
                    if MOD == SOFTCAP:
                        dscores *= slope_of(raw, scoring)
                    dk = product(rounded(dscores, q, DROP), q, dk, PRECISION, DROP)
    store_tile(dk_ptr, dk * scoring.scale, pair, start_n, size.seqlen_kv, size.head_dim, BLOCK_N, BLOCK_D, DROP)
    store_tile(dv_ptr, dv, pair, start_n, size.seqlen_kv, size.head_dim_v, BLOCK_N, BLOCK_DV, DROP)


@triton.jit
def dq(
    q_src, k_src, v_src, dout_src, lse_ptr, delta_ptr, dq_ptr,
    low_ptr, high_ptr, pattern_ptr, q_strides, k_strides, v_strides, dout_strides,
    size, scoring,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    RULE: tl.constexpr, MOD: tl.constexpr, EVEN_KEYS: tl.constexpr,
    EVEN_DIM: tl.constexpr, EVEN_DIM_V: tl.constexpr,
    TMA: tl.constexpr, PRECISION: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """Compute dQ of one block of ``BLOCK_M`` queries of one head; grid (blocks of queries, batch * heads_q).

    Arguments as in :func:`dk_dv` and :func:`forward`; ``dq_ptr`` (batch, heads_q, seqlen_q, head_dim), contiguous.
    """
    start_m = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M
    pair = tl.program_id(1)
    batch, head = pair // size.heads_q, pair % size.heads_q
    head_kv = head // size.group
    rows = start_m + tl.arange(0, BLOCK_M)
    low, high, begin, full, edge, end = key_range(low_ptr, high_ptr, batch, start_m, size, RULE, BLOCK_M, BLOCK_N)

    q = load_tile(
        q_src, q_strides, batch, head, start_m, size.seqlen_q, size.head_dim, BLOCK_M, BLOCK_D, False, EVEN_DIM, TMA
    )
    dout = load_tile(
        dout_src, dout_strides, batch, head, start_m, size.seqlen_q, size.head_dim_v,
        BLOCK_M, BLOCK_DV, False, EVEN_DIM_V, TMA,
    )  # fmt: skip
    row_of_all = tl.cast(pair, tl.int64) * size.seqlen_q + rows
    lse = tl.load(lse_ptr + row_of_all, mask=rows < size.seqlen_q, other=float("inf"))
    delta = tl.load(delta_ptr + row_of_all, mask=rows < size.seqlen_q, other=0.0)
    total = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for stretch in tl.static_range(3):
        if stretch == 0:
            here, there = begin, full
        elif stretch == 1:
            here, there = full, edge
        else:
            here, there = edge, end
        if (stretch == 0 and RULE >= LISTED) or (
            RULE < BLOCKS and (stretch == 1 or (stretch == 2 and not (RULE == ALL and EVEN_KEYS)))
        ):
            for place in tl.range(here, there, 1 if RULE == BLOCKS else BLOCK_N):
                start_n, pattern = block_at(high_ptr, place, RULE)
                k = load_tile(
                    k_src, k_strides, batch, head_kv, start_n, size.seqlen_kv, size.head_dim,
                    BLOCK_N, BLOCK_D, stretch == 1, EVEN_DIM, TMA,
                )  # fmt: skip
                v = load_tile(
                    v_src, v_strides, batch, head_kv, start_n, size.seqlen_kv, size.head_dim_v,
                    BLOCK_N, BLOCK_DV, stretch == 1, EVEN_DIM_V, TMA,
                )  # fmt: skip
                keys = start_n + tl.arange(0, BLOCK_N)
                raw = product(q, tl.trans(k), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), PRECISION, DROP)
                scores = modified(raw, rows[:, None], keys[None, :], head, size, scoring, MOD)
                weights = tl.exp2((scores - lse[:, None]) * LOG2_E)
                if stretch != 1:
                    is_visible = visible(low, high, keys, pattern_ptr, pattern, RULE, BLOCK_M, BLOCK_N, BLOCK_N, 1)
                    weights = tl.where(is_visible, weights, 0.0)
                dweights = product(dout, tl.trans(v), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), PRECISION, DROP)
                dscores = weights * (dweights - delta[:, None])
                if MOD == SOFTCAP:
                    dscores *= slope_of(raw, scoring)
                total = product(rounded(dscores, k, DROP), k, total, PRECISION, DROP)
    store_tile(dq_ptr, total * scoring.scale, pair, start_m, size.seqlen_q, size.head_dim, BLOCK_M, BLOCK_D, DROP)
