"""A few queries over K and V in int8 with a scale per row: like :func:`decode.decode_for` with a quarter of the bytes.

Numbers are widened when they are loaded, and each is used for several queries before the next. They are not multiplied
by their scales: K's scale is a factor of all scores of its key, V's of all weights of its key::

    S = (Q K8^T) * scale of K      one factor per query and key, instead of head_dim
    P = exp(S - max)
    O = O + (P * scale of V) V8    the sum of weights is still that of P
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .arguments import (
    CUT,
    SHARED,
    TENSORS,
    WORDS,
    Cut,
    Dtypes,
    Matrix,
    Rules,
    Sizes,
    Tensor,
    matrix_of,
    moved,
    pointer,
    rules_in,
    rules_of,
    sizes_in,
    tensor_in,
)
from .decode import SPLIT, decode_cut, hide_gaps, merge_group, weigh_row
from .language.compiling import Number, Pointer, compiled
from .language.scheduling import next_task
from .language.simd import lanes_of, load, store
from .language.target import TARGET
from .softmax import TILE, cap
from .streaming import RUN, scores, sums
from .tiles import after, allocate, fill, line_from, pack, padded, release, wide

FOUR = 4  # queries that share widened numbers
WIDE = TARGET.columns
scores_of_four, scores_of_one = scores(FOUR, 2), scores(1, 4)
four_by_some, four_by_one = sums(FOUR, WIDE), sums(FOUR, 1)
one_by_eight, one_by_one = sums(1, 8), sums(1, 1)


@compiled
def multiply_rows(
    s: Pointer, s_at: int, q: Pointer, row: int, b: Pointer, b_at: int, b_row: int, queries: int, registers: int,
    factor: Pointer, crossed: Pointer,
) -> None:  # fmt: skip
    """Compute scores, (queries, ``SPLIT``), of all queries with some registers of keys, as in ``streaming.py``.

    Args:
        s: scores to fill.
        s_at: index of the first key in a row.
        q: (queries, ``row``).
        row: numbers in a row of Q, whole registers.
        b: keys, int8 or numbers.
        b_at: start of the keys.
        b_row: stride of their rows.
        queries: number of queries.
        registers: number of registers of keys.
        factor: one number.
        crossed: room for a register for each of ``FOUR`` queries and each lane.
    """
    lanes = lanes_of(s)
    for block in range(registers):
        at, r = b_at + block * lanes * b_row, 0
        while r < queries:
            place = s_at + r * SPLIT + block * lanes
            if r + FOUR <= queries:
                scores_of_four(s, place, SPLIT, q, r * row, row, b, at, b_row, row // lanes, factor, crossed)
                r += FOUR
            else:
                scores_of_one(s, place, SPLIT, q, r * row, row, b, at, b_row, row // lanes, factor, crossed)
                r += 1


@compiled
def add_sums(
    out: Pointer, row: int, p: Pointer, p_at: int, b: Pointer, b_at: int, b_row: int, queries: int, keys: int
) -> None:
    """Add rows of B times weights to the sums of all queries, (queries, ``row``), as in ``streaming.py``.

    Args:
        out: sums.
        row: numbers in a row of sums, whole registers.
        p: weights, (queries, ``SPLIT``).
        p_at: index of the first key in a row.
        b: values, int8 or numbers.
        b_at: start of the values.
        b_row: stride of their rows.
        queries: number of queries.
        keys: number of keys.
    """
    lanes = lanes_of(out)
    for start in range(0, keys, RUN):
        count, r, at = min(RUN, keys - start), 0, b_at + start * b_row
        while r < queries:
            j, four, p_start = 0, r + FOUR <= queries, p_at + r * SPLIT + start
            while j < row:
                place = r * row + j
                if four and j + WIDE * lanes <= row:
                    four_by_some(out, place, row, p, p_start, SPLIT, b, at + j, b_row, count)
                    j += WIDE * lanes
                elif four:
                    four_by_one(out, place, row, p, p_start, SPLIT, b, at + j, b_row, count)
                    j += lanes
                elif j + 8 * lanes <= row:
                    one_by_eight(out, place, row, p, p_start, SPLIT, b, at + j, b_row, count)
                    j += 8 * lanes
                else:
                    one_by_one(out, place, row, p, p_start, SPLIT, b, at + j, b_row, count)
                    j += lanes
            r += FOUR if four else 1


@compiled
def scale_keys(s: Pointer, queries: int, keys: int, of_row: Matrix, begin: int, factors: Pointer) -> None:
    """Multiply scores or weights, (queries, ``SPLIT``), by the scales of their keys, from ``begin`` on.

    ``factors`` is room for the scales of a split, in the type of the products.
    """
    lanes = lanes_of(s)
    for key in range(keys):
        factors[key] = of_row.data[(begin + key) * of_row.row]
    for r in range(queries):
        for key in range(0, keys, lanes):  # anything past the last key is hidden, or not summed
            store(s, r * SPLIT + key, load(s, r * SPLIT + key) * load(factors, key))


class Scratch(NamedTuple):
    """The scratch memory of a thread: room for a split, in the type of the products.

    Attributes:
        q: the queries, (queries, head_dim).
        s: their scores, and then their weights, (queries, ``SPLIT``).
        factors: scales of a split.
        tile: a tile of K or V, if rows do not fill whole registers, (TILE, head_dim or head_dim_v).
        crossed: for :func:`multiply_rows`.
        spare: for :func:`tiles.unpack`.
    """

    q: Pointer
    s: Pointer
    factors: Pointer
    tile: Pointer
    crossed: Pointer
    spare: Pointer


@compiled
def scratch_at(start: int, queries: int, row_k: int, row_v: int, out: Number, number: Number) -> Any:
    """Return a thread's scratch memory that starts at an address, and the address past its end."""
    lanes = lanes_of(number)
    s = after(start, queries * row_k, number)
    factors = after(s, queries * SPLIT, number)
    tile = after(factors, SPLIT, number)
    crossed = after(tile, TILE * max(row_k, row_v), number)
    spare = after(crossed, FOUR * lanes * lanes, number)
    scratch = Scratch(
        pointer(start, number), pointer(s, number), pointer(factors, number), pointer(tile, number),
        pointer(crossed, number), pointer(spare, out),
    )  # fmt: skip
    return scratch, after(spare, lanes, out)


@compiled
def attend_split(
    q: Tensor, k: Matrix, v: Matrix, k_scale: Matrix, v_scale: Matrix, sizes: Sizes, rules: Rules, b: int, head: int,
    begin: int, end: int, weighted: Pointer, state: Pointer, scratch: Scratch,
) -> None:  # fmt: skip
    """Attend from all queries that share keys to a range of these, as :func:`decode.attend_split` does.

    Args:
        q: (batch, heads_q, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim), int8.
        v: (seqlen_kv, head_dim_v), int8.
        k_scale: (seqlen_kv, 1).
        v_scale: (seqlen_kv, 1).
        sizes: sizes of the case.
        rules: rules of this element of the batch.
        b: element of the batch.
        head: the first query head that shares the keys.
        begin: first key.
        end: one past the last key.
        weighted: sums of weighted values to fill, (group * seqlen_q, head_dim_v padded).
        state: largest score and sum of weights to fill, (group * seqlen_q, 2).
        scratch: the thread's scratch memory.
    """
    seqlen_q, seqlen_kv, scale = sizes.seqlen_q, sizes.seqlen_kv, rules.scale
    q_rows, s, tile, crossed = scratch.q, scratch.s, scratch.tile, scratch.crossed
    group, lanes = sizes.heads_q // sizes.heads_kv, lanes_of(s)
    queries, keys = group * seqlen_q, end - begin
    row_k, row_v = padded(sizes.head_dim, s), padded(sizes.head_dim_v, s)
    # phase: copies
    fill(weighted, 0, queries * row_v, 0)
    for h in range(group):
        pack(q_rows, h * seqlen_q * row_k, row_k, matrix_of(q, b, head + h, sizes.head_dim), 0, seqlen_q)

    # Rows of keys that fill whole registers are read in place; the rest is widened into a tile.
    whole = keys - keys % lanes if k.column == 1 and k.width == row_k else 0
    # phase: qk
    multiply_rows(s, 0, q_rows, row_k, k.data, begin * k.row, k.row, queries, whole // lanes, scale, crossed)
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_k, k, begin + block, count)  # phase: copies
        fill(tile, count * row_k, (padded(count, s) - count) * row_k, 0)
        multiply_rows(s, block, q_rows, row_k, tile, 0, row_k, queries, padded(count, s) // lanes, scale, crossed)
    # phase: mask
    scale_keys(s, queries, keys, k_scale, begin, scratch.factors)
    if scale[3] > 0:
        cap(s, queries * SPLIT // TILE, TILE // lanes, scale[1], scale[3])
    for r in range(queries):
        h, i = r // seqlen_q, r % seqlen_q
        if rules.bias_row > 0:
            bias = (head + h) * rules.bias_row + i - begin + seqlen_kv - 1
            for key in range(keys):
                s[r * SPLIT + key] += rules.bias[bias - key]
        last = hide_gaps(s, r * SPLIT, rules, seqlen_q, i, begin, keys)
        seen, beyond = wide(rules.low[i]) - begin, min(last - begin, keys)
        # phase: softmax
        weigh_row(s, s, r * SPLIT, padded(keys, s) // lanes, seen, beyond, rules.low, moved(state, 2 * r))
    scale_keys(s, queries, keys, v_scale, begin, scratch.factors)

    whole = keys if v.column == 1 and v.width == row_v else 0
    # phase: pv
    add_sums(weighted, row_v, s, 0, v.data, begin * v.row, v.row, queries, whole)
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_v, v, begin + block, count)  # phase: copies
        add_sums(weighted, row_v, s, block, tile, 0, row_v, queries, count)


def decode_int8_cut(sizes: Sizes, dtypes: Dtypes, threads: int, splits: int) -> Cut:
    """Divide the work as :func:`decode.decode_cut` does, but without pairs."""
    return decode_cut(sizes, dtypes._replace(words=dtypes.number), threads, splits)


def decode_int8_for(sources: int, dtypes: Dtypes) -> Callable[..., None]:
    """Return the forward pass for a few queries, a function that closes over ``sources`` (see ``entry.py``)."""
    kind, index, _, number = dtypes
    stored, of_row = np.int8, np.float32

    def decode_int8(block: Pointer) -> None:
        """Do the work of one thread, as ``decode`` does. The tensors are Q, K, V, their scales, the output, the LSE."""
        assert sources >= 0
        sizes, rules, splits = sizes_in(block), rules_in(block, index, number), block[CUT]
        q, k, v = tensor_in(block, 0, kind), tensor_in(block, 1, stored), tensor_in(block, 2, stored)
        k_scale, v_scale = tensor_in(block, 3, of_row), tensor_in(block, 4, of_row)
        out, lse = tensor_in(block, 5, kind), tensor_in(block, 6, number)
        seqlen_q, counter = sizes.seqlen_q, TENSORS + 7 * WORDS
        owners, group = sizes.batch * sizes.heads_kv, sizes.heads_q // sizes.heads_kv
        row_k, row_v, queries = padded(sizes.head_dim, number), padded(sizes.head_dim_v, number), group * seqlen_q
        partial = pointer(block[SHARED], number)
        states = moved(partial, owners * splits * queries * row_v)
        _, size = scratch_at(0, queries, row_k, row_v, kind, number)
        memory = allocate(size + TILE)
        scratch, _ = scratch_at(line_from(memory), queries, row_k, row_v, kind, number)
        task = next_task(block, counter)
        while task < owners * splits:
            owner, split = task // splits, task % splits
            b, g = owner // sizes.heads_kv, owner % sizes.heads_kv
            own = rules_of(rules, b, seqlen_q)
            keys = moved(own.stretches, 2 * (b * splits + split))
            attend_split(
                q, matrix_of(k, b, g, sizes.head_dim), matrix_of(v, b, g, sizes.head_dim_v),
                matrix_of(k_scale, b, g, 1), matrix_of(v_scale, b, g, 1), sizes, own, b, g * group, keys[0], keys[1],
                moved(partial, task * queries * row_v), moved(states, task * queries * 2), scratch,
            )  # fmt: skip
            if next_task(block, counter + 1 + owner) == splits - 1:
                merge_group(out, lse, rules.sinks, partial, states, sizes, owner, splits, row_v, scratch.spare)
            task = next_task(block, counter)
        release(memory)

    return decode_int8
