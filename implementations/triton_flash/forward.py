"""The forward kernel of ``triton/flash``: blocks of keys stream past a block of queries, with an online softmax.

Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning" (2023), algorithm 1. Milakov
and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    ALL,
    BLOCKS,
    LISTED,
    LN_2,
    LOG2_E,
    PLAIN,
    block_at,
    key_range,
    load_tile,
    modified,
    product,
    rounded,
    store_tile,
    visible,
)


@triton.jit
def load_values(
    v_src, v_strides, batch, head, start, size,
    BLOCK_N: tl.constexpr, BLOCK_DV: tl.constexpr, WHOLE: tl.constexpr, EVEN_DIM: tl.constexpr,
    TMA: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """Load a tile of V, (BLOCK_N, BLOCK_DV), from either memory layout."""
    if TMA and TRANSPOSED:
        return tl.trans(v_src.load([batch, head, 0, start]).reshape(BLOCK_DV, BLOCK_N))
    else:  # noqa: RET505 - the compiler must not see the other branch
        return load_tile(
            v_src, v_strides, batch, head, start, size.seqlen_kv, size.head_dim_v,
            BLOCK_N, BLOCK_DV, WHOLE, EVEN_DIM, TMA,
        )  # fmt: skip


@triton.jit
def forward(
    q_src, k_src, v_src, out_ptr, lse_ptr, low_ptr, high_ptr, pattern_ptr, sink_ptr,
    q_strides, k_strides, v_strides, size, scoring,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    RULE: tl.constexpr, MOD: tl.constexpr, SINK: tl.constexpr, EVEN_KEYS: tl.constexpr,
    EVEN_DIM: tl.constexpr, EVEN_DIM_V: tl.constexpr, SHIFT: tl.constexpr,
    TMA: tl.constexpr, V_TRANSPOSED: tl.constexpr, PRECISION: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """Compute one block of ``BLOCK_M`` queries of one head; grid (blocks of queries, batch * heads_q).

    Args:
        q_src, k_src, v_src: (batch, heads, seqlen, dim), pointers with strides, or descriptors with ``TMA``.
        out_ptr: (batch, heads_q, seqlen_q, head_dim_v), contiguous.
        lse_ptr: (batch, heads_q, seqlen_q), float32, contiguous; natural logarithm.
        low_ptr, high_ptr: see :func:`keys_of`; with ``BLOCKS``, a list of ``lists.py``.
        pattern_ptr: the patterns of that list.
        sink_ptr: (heads_q,), float32.
        BLOCK_D, BLOCK_DV: the head dims, rounded up to powers of two; ``EVEN_DIM``: head_dim is one.
        EVEN_KEYS: ``seqlen_kv`` is a multiple of ``BLOCK_N``.
        SHIFT: weights are multiplied by ``2 ** SHIFT`` before they are rounded to V's dtype: float8 has few numbers
            near 0, and room above 1. The factor cancels, as the sum of weights has it, too.
        V_TRANSPOSED: with ``TMA``, ``v_src`` is a descriptor of (batch, heads, dim, seqlen).
    """
    # Under a causal mask the last rows see the most keys: they start first, so that no long tile is left for the end.
    start_m = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M
    pair = tl.program_id(1)
    batch, head = pair // size.heads_q, pair % size.heads_q
    head_kv = head // size.group
    rows = start_m + tl.arange(0, BLOCK_M)
    low, high, begin, full, edge, end = key_range(low_ptr, high_ptr, batch, start_m, size, RULE, BLOCK_M, BLOCK_N)

    q = load_tile(
        q_src, q_strides, batch, head, start_m, size.seqlen_q, size.head_dim, BLOCK_M, BLOCK_D, False, EVEN_DIM, TMA
    )
    # The unit of `scores`. If only the scale is missing, it is applied in the multiply-add below.
    unit = scoring.scale if MOD == PLAIN and not SINK else 1.0
    factor = unit * LOG2_E
    maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_M], tl.float32)
    if SINK:  # a key of its own that every row sees, and that has no value
        maximum = tl.zeros([BLOCK_M], tl.float32) + tl.load(sink_ptr + head)
        weight += 2.0**SHIFT
    reference = maximum * factor - SHIFT  # weights are 2 to the power of the score's distance above it
    total = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)

    for stretch in tl.static_range(3):  # the left edge of the mask, full blocks, the right edge
        if stretch == 0:
            here, there = begin, full
        elif stretch == 1:
            here, there = full, edge
        else:
            here, there = edge, end
        # Stretches that cannot have a block are not compiled at all.
        if (stretch == 0 and RULE >= LISTED) or (
            RULE < BLOCKS and (stretch == 1 or (stretch == 2 and not (RULE == ALL and EVEN_KEYS)))
        ):
            for place in tl.range(here, there, 1 if RULE == BLOCKS else BLOCK_N):
                start_n, pattern = block_at(high_ptr, place, RULE)
                k = load_tile(
                    k_src, k_strides, batch, head_kv, start_n, size.seqlen_kv, size.head_dim,
                    BLOCK_N, BLOCK_D, stretch == 1, EVEN_DIM, TMA,
                )  # fmt: skip
                scores = product(q, tl.trans(k), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), PRECISION, DROP)
                keys = start_n + tl.arange(0, BLOCK_N)
                if MOD != PLAIN or SINK:
                    scores = modified(scores, rows[:, None], keys[None, :], head, size, scoring, MOD)
                if stretch != 1:
                    is_visible = visible(low, high, keys, pattern_ptr, pattern, RULE, BLOCK_M, BLOCK_N, BLOCK_N, 1)
                    scores = tl.where(is_visible, scores, float("-inf"))

                maximum = tl.maximum(maximum, tl.max(scores, 1))
                before, reference = reference, maximum * factor - SHIFT
                subtracted = reference
                if stretch != 1:  # a row without a visible key so far: -inf - -inf would be NaN
                    subtracted = tl.where(maximum == float("-inf"), 0.0, reference)
                # One instruction, and one rounding, of a number that is small where weights are large. The rounding of
                # the reference is the same factor in all weights of a row, which the LSE below accounts for.
                weights = tl.exp2(tl.fma(scores, factor, -subtracted[:, None]))
                v = load_values(
                    v_src, v_strides, batch, head_kv, start_n, size,
                    BLOCK_N, BLOCK_DV, stretch == 1, EVEN_DIM_V, TMA, V_TRANSPOSED,
                )  # fmt: skip
                # When the maximum of a row grows, the sums so far are scaled down.
                decay = tl.exp2(before - subtracted)
                total = product(rounded(weights, v, DROP), v, total * decay[:, None], PRECISION, DROP)
                weight = weight * decay + tl.sum(weights, 1)

    # A row that sees no key: output 0 / 1, LSE -inf.
    empty = weight == 0.0
    weight = tl.where(empty, 1.0, weight)
    is_row = rows < size.seqlen_q
    # The exact largest score, plus the log of the sum of weights over that score's own weight. (It is not
    # `reference + log2(weight)` in other units: see `modified`.)
    of_maximum = tl.fma(maximum, factor, -reference)
    lse = tl.where(empty, float("-inf"), tl.fma(maximum, unit, (tl.log2(weight) - of_maximum) * LN_2))
    tl.store(lse_ptr + tl.cast(pair, tl.int64) * size.seqlen_q + rows, lse, mask=is_row)
    store_tile(out_ptr, total / weight[:, None], pair, start_m, size.seqlen_q, size.head_dim_v, BLOCK_M, BLOCK_DV, DROP)
