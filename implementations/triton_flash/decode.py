"""Decoding in ``triton/flash``: few queries over many keys, which are split among programs.

One query block per head would leave most of a GPU idle. Here each program computes output and LSE of a stretch of the
keys; a second kernel merges them by their LSEs (Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context
inference", 2023). All query heads that share keys are rows of one tile, so that keys are read once.
Keys may be paged (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
2023).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import LN_2, LOG2_E, block_range, keys_of, modified, product, rounded


@triton.jit
def load_keys(
    source, strides, table_ptr, head, keys, is_there, dim, page_size,
    COLS: tl.constexpr, PAGED: tl.constexpr,
):  # fmt: skip
    """Load rows ``keys`` of K or V of one head, (BLOCK_N, COLS).

    ``source`` and ``table_ptr`` point to the batch element; with ``PAGED``, ``strides.batch`` is the stride of pages
    and ``strides.row`` that of rows within a page.
    """
    dims = tl.arange(0, COLS)
    if PAGED:
        page = tl.load(table_ptr + keys // page_size, mask=is_there, other=0)
        places = page.to(tl.int64) * strides.batch + (keys % page_size) * strides.row
    else:
        places = keys.to(tl.int64) * strides.row
    first = source + tl.cast(head, tl.int64) * strides.head
    return tl.load(
        first + places[:, None] + dims[None, :] * strides.dim,
        mask=is_there[:, None] & (dims[None, :] < dim),
        other=0.0,
    )


@triton.jit
def partial(
    q_ptr, k_ptr, v_ptr, part_ptr, lse_ptr, low_ptr, high_ptr, sink_ptr,
    table_ptr, q_strides, k_strides, v_strides, size, scoring,
    pages_each, page_size, keys_each,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    RULE: tl.constexpr, MOD: tl.constexpr, SINK: tl.constexpr, PAGED: tl.constexpr, SHIFT: tl.constexpr,
    PRECISION: tl.constexpr, DROP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attend to one stretch of keys from ``BLOCK_M`` rows; grid (splits, blocks of rows, batch * heads_kv).

    A row is a query of one of the heads that share a key head: row ``r`` is query ``r // group`` of head
    ``head_kv * group + r % group``.

    Args:
        q_ptr: (batch, heads_q, seqlen_q, head_dim).
        k_ptr, v_ptr: (batch, heads_kv, seqlen_kv, dim), or with ``PAGED`` (pages, heads_kv, page_size, dim), with any
            strides, and ``table_ptr`` (batch, pages_each), int32.
        part_ptr: (splits, batch, heads_q, seqlen_q, head_dim_v), float32: output over these keys alone.
        lse_ptr: (splits, batch, heads_q, seqlen_q), float32: their LSE.
        keys_each: keys of a stretch, a multiple of ``BLOCK_N``.
    """
    if PDL:  # the merge may be launched; it waits for the results of this kernel
        tl.extra.cuda.gdc_launch_dependents()
    split, pair = tl.program_id(0), tl.program_id(2)
    heads_kv = size.heads_q // size.group
    batch, head_kv = pair // heads_kv, pair % heads_kv
    members = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    is_row = members < size.group * size.seqlen_q
    queries, heads = members // size.group, head_kv * size.group + members % size.group
    heads = tl.where(is_row, heads, head_kv * size.group)
    dims = tl.arange(0, BLOCK_D)
    q = tl.load(
        q_ptr + tl.cast(batch, tl.int64) * q_strides.batch
        + (heads.to(tl.int64) * q_strides.head + queries.to(tl.int64) * q_strides.row)[:, None]
        + dims[None, :] * q_strides.dim,
        mask=is_row[:, None] & (dims[None, :] < size.head_dim),
        other=0.0,
    )  # fmt: skip
    low, high = keys_of(low_ptr, high_ptr, batch, queries, size, RULE)
    begin, _, _, end = block_range(low, high, size.seqlen_kv, BLOCK_N)
    begin, end = tl.maximum(begin, split * keys_each), tl.minimum(end, (split + 1) * keys_each)

    maximum, weight = tl.full([BLOCK_M], float("-inf"), tl.float32), tl.zeros([BLOCK_M], tl.float32)
    if SINK:  # once, not in each stretch
        if split == 0:
            maximum = tl.load(sink_ptr + heads)
            weight = tl.full([BLOCK_M], 2.0**SHIFT, tl.float32)
    total = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)
    at_k, at_v, table = k_ptr, v_ptr, table_ptr
    if PAGED:
        table += batch * pages_each
    else:
        at_k += tl.cast(batch, tl.int64) * k_strides.batch
        at_v += tl.cast(batch, tl.int64) * v_strides.batch
    for start_n in tl.range(begin, end, BLOCK_N):
        keys = start_n + tl.arange(0, BLOCK_N)
        is_key = keys < size.seqlen_kv
        k = load_keys(at_k, k_strides, table, head_kv, keys, is_key, size.head_dim, page_size, BLOCK_D, PAGED)
        raw = product(q, tl.trans(k), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), PRECISION, DROP)
        scores = modified(raw, queries[:, None], keys[None, :], heads[:, None], size, scoring, MOD)
        is_visible = (keys[None, :] >= low[:, None]) & (keys[None, :] < high[:, None])
        scores = tl.where(is_visible, scores, float("-inf"))
        highest = tl.maximum(maximum, tl.max(scores, 1))
        subtracted = tl.where(highest == float("-inf"), 0.0, highest)
        weights = tl.exp2((scores - subtracted[:, None]) * LOG2_E + SHIFT)
        v = load_keys(at_v, v_strides, table, head_kv, keys, is_key, size.head_dim_v, page_size, BLOCK_DV, PAGED)
        decay = tl.exp2((maximum - subtracted) * LOG2_E)
        total = product(rounded(weights, v, DROP), v, total * decay[:, None], PRECISION, DROP)
        weight = weight * decay + tl.sum(weights, 1)
        maximum = highest

    empty = weight == 0.0
    weight = tl.where(empty, 1.0, weight)
    planes = (tl.num_programs(2) // heads_kv) * size.heads_q
    row_of_all = ((tl.cast(split, tl.int64) * planes + batch * size.heads_q + heads) * size.seqlen_q) + queries
    lse = maximum + (tl.log2(weight) - SHIFT) * LN_2
    tl.store(lse_ptr + row_of_all, tl.where(empty, float("-inf"), lse), mask=is_row)
    dims_v = tl.arange(0, BLOCK_DV)
    tl.store(
        part_ptr + row_of_all[:, None] * size.head_dim_v + dims_v[None, :],
        total / weight[:, None],
        mask=is_row[:, None] & (dims_v[None, :] < size.head_dim_v),
    )


@triton.jit
def merge(
    part_ptr, part_lse_ptr, out_ptr, lse_ptr, rows, dim, splits,
    BLOCK_SPLITS: tl.constexpr, BLOCK_DV: tl.constexpr, DROP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Merge one row of the output from its parts; grid (batch * heads_q * seqlen_q).

    Args:
        part_ptr: (splits, rows, dim), float32.
        part_lse_ptr: (splits, rows), float32; -inf where a part has no visible key.
        out_ptr: (rows, dim).
        lse_ptr: (rows), float32, natural logarithm.
    """
    if PDL:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    parts, dims = tl.arange(0, BLOCK_SPLITS), tl.arange(0, BLOCK_DV)
    is_part = parts < splits
    at = parts.to(tl.int64) * rows + row
    lse = tl.load(part_lse_ptr + at, mask=is_part, other=float("-inf"))
    highest = tl.max(lse, 0)
    reference = tl.where(highest == float("-inf"), 0.0, highest)
    weights = tl.exp2((lse - reference) * LOG2_E)
    weight = tl.sum(weights, 0)
    values = tl.load(
        part_ptr + at[:, None] * dim + dims[None, :], mask=is_part[:, None] & (dims[None, :] < dim), other=0.0
    )
    total = tl.sum(values * weights[:, None], 0) / tl.where(weight == 0.0, 1.0, weight)
    first = out_ptr + tl.cast(row, tl.int64) * dim
    if DROP > 0:
        total = rounded(total, total, 16)
    tl.store(first + dims, total.to(out_ptr.dtype.element_ty), mask=dims < dim)
    tl.store(lse_ptr + row, highest + tl.log2(tl.where(weight == 0.0, 1.0, weight)) * LN_2)
