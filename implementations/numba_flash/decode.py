"""A few queries over many keys, as in text generation: the keys are split, and the splits' results are merged.

With so few queries a register of 16 queries would be nearly empty, so here rows of K and V fill the registers::

    S = Q K^T            dot products; a register of the result holds one query's scores with 16 keys
    P = exp(S - max)
    O = O + P V          a register holds 16 columns of V and of O

All queries of all heads that share keys are computed together, so that each key is read from memory once; reading is
the cost of such a call. A split has at most a fixed number of keys, so that the result does not depend on the number of
threads; keys that no query sees are in no split. Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context
inference" (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

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
    keys_of,
    matrix_of,
    moved,
    pointer,
    rules_in,
    rules_of,
    sizes_in,
    tensor_in,
)
from .language.compiling import Number, Pointer, chosen_by_types, compiled
from .language.scheduling import next_task
from .language.simd import exp, lane_numbers, lanes_of, largest_of, load, maximum, select, spread, store, sum_of
from .language.target import TARGET
from .softmax import TILE, cap
from .streaming import TOGETHER, add_sums, multiply_rows
from .tiles import (
    after,
    allocate,
    fill,
    flat,
    in_place,
    line_from,
    pack,
    padded,
    per_word,
    release,
    store_halves,
    unpack,
    wide,
)

QUERIES = 16  # at most, per head: more queries fill registers in the forward kernel
SPLIT = 512  # keys, or pairs of bfloat16: half a MiB of K and V at a head_dim of 128


def store_weights(p: Pointer, at: int, weights: Pointer) -> None:
    """Store a vector of weights of neighbouring keys from number ``at`` of ``p`` on."""
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(store_weights)
def _store_weights(p: Pointer, at: int, weights: Pointer) -> Any:
    def numbers(p: Pointer, at: int, weights: Pointer) -> None:
        store(p, at, weights)

    def pairs(p: Pointer, at: int, weights: Pointer) -> None:
        store_halves(p, at // 2, weights)

    return pairs if isinstance(p.dtype, types.Integer) else numbers


@compiled
def weigh_row(
    s: Pointer, p: Pointer, at: int, vectors: int, low: int, high: int, index: Pointer, state: Pointer
) -> None:
    """Compute one query's unnormalised softmax: from scores ``s[at:]`` to weights in ``p``.

    Args:
        s: scores, (queries, keys of a split).
        p: weights, likewise; in words, a word is two neighbouring keys.
        at: where the query's row begins.
        vectors: registers of keys.
        low: first key that the query sees, counted from the row's first.
        high: first key beyond, likewise.
        index: a pointer to integers of the index type.
        state: to fill: the largest score, and the sum of the weights.
    """
    lanes = lanes_of(s)
    hidden = spread(s, -np.inf)
    first, beyond = spread(index, low), spread(index, high)
    highest = hidden
    for vector in range(vectors):
        key = lane_numbers(index) + spread(index, vector * lanes)
        score = select((first <= key) & (key < beyond), load(s, at + vector * lanes), hidden)
        store(s, at + vector * lanes, score)
        highest = maximum(score, highest)
    state[0] = largest_of(highest)
    base = spread(s, state[0] if state[0] > -np.inf else 0)
    total = spread(s, 0)
    for vector in range(vectors):
        weights = exp(load(s, at + vector * lanes) - base)  # phase: exp
        store_weights(p, at + vector * lanes, weights)
        total = total + weights
    state[1] = sum_of(total)


@compiled
def hide_gaps(s: Pointer, at: int, rules: Rules, seqlen_q: int, row: int, begin: int, keys: int) -> int:
    """Set scores between the runs of keys that a row sees to -inf; return the first key past the last run.

    Args:
        s: scores.
        at: index of the row's first score.
        rules: rules of this element of the batch.
        seqlen_q: number of queries.
        row: index of the query.
        begin: key of the first score.
        keys: number of keys.
    """
    last = wide(rules.high[row])
    for run in range(1, rules.runs):
        place = run * seqlen_q + row
        if rules.low[place] < rules.high[place]:
            for key in range(max(0, last - begin), min(keys, wide(rules.low[place]) - begin)):
                s[at + key] = -np.inf
            last = wide(rules.high[place])
    return last


@compiled
def padded_row(width: int, words: Number) -> int:
    """Return the number of words of a row of ``width`` numbers, padded to whole registers."""
    pair = per_word(words)
    return padded((width + pair - 1) // pair, words)


class Scratch(NamedTuple):
    """The scratch memory of a thread: room for a split.

    Attributes:
        q: the queries, (queries, head_dim), in words.
        s: their scores, (queries, keys of a split).
        p: their weights, in words.
        tile: a tile of K or V, if they are not read in place, (TILE, head_dim or head_dim_v), in words.
        crossed: for :func:`streaming.multiply_rows`.
        spare: for :func:`tiles.unpack`.
    """

    q: Pointer
    s: Pointer
    p: Pointer
    tile: Pointer
    crossed: Pointer
    spare: Pointer


@compiled
def scratch_at(start: int, queries: int, row_k: int, row_v: int, out: Number, words: Number, number: Number) -> Any:
    """Return a thread's scratch memory that starts at an address, and the address past its end."""
    lanes = lanes_of(number)
    s = after(start, queries * row_k, words)
    p = after(s, queries * SPLIT * per_word(words), number)
    tile = after(p, queries * SPLIT, words)
    crossed = after(tile, TILE * max(row_k, row_v), words)
    spare = after(crossed, TOGETHER * lanes * lanes, number)
    scratch = Scratch(
        pointer(start, words), pointer(s, number), pointer(p, words), pointer(tile, words), pointer(crossed, number),
        pointer(spare, out),
    )  # fmt: skip
    return scratch, after(spare, lanes, out)


@compiled
def attend_split(
    q: Tensor, k: Matrix, v: Matrix, sizes: Sizes, rules: Rules, b: int, head: int, begin: int, end: int,
    sums: Pointer, state: Pointer, scratch: Scratch,
) -> None:  # fmt: skip
    """Attend from all queries that share keys to a range of these keys, filling ``sums`` and ``state``.

    Args:
        q: (batch, heads_q, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        sizes: sizes of the case.
        rules: rules of this element of the batch.
        b: element of the batch.
        head: the first query head that shares the keys.
        begin: first key.
        end: one past the last key.
        sums: sums of weighted values, (group * seqlen_q, head_dim_v padded).
        state: largest score and sum of weights, (group * seqlen_q, 2).
        scratch: the thread's scratch memory.
    """
    seqlen_q, seqlen_kv, scale, words, number = sizes.seqlen_q, sizes.seqlen_kv, rules.scale, scratch.p, scratch.s
    group = sizes.heads_q // sizes.heads_kv
    queries, keys = group * seqlen_q, end - begin
    pair, lanes = per_word(words), lanes_of(number)
    room = SPLIT * pair  # length of a row of scores
    row_k, row_v = padded_row(sizes.head_dim, words), padded_row(sizes.head_dim_v, words)  # in words
    s, p, tile = scratch.s, scratch.p, scratch.tile
    # phase: copies
    fill(sums, 0, queries * row_v * pair, 0)
    for h in range(group):
        pack(scratch.q, h * seqlen_q * row_k, row_k, matrix_of(q, b, head + h, sizes.head_dim), 0, seqlen_q)

    # K and V are read in place if their memory layout permits; the rest is copied to a tile.
    whole = keys - keys % lanes if in_place(k, words) else 0
    row = k.row // pair
    # phase: qk
    multiply_rows(
        s, room, 0, scratch.q, row_k, flat(k, words), begin * row, row, queries, whole // lanes, row_k // lanes, scale,
        scratch.crossed,
    )  # fmt: skip
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_k, k, begin + block, count)  # phase: copies
        fill(tile, count * row_k, (padded(count, number) - count) * row_k, 0)
        multiply_rows(
            s, room, block, scratch.q, row_k, tile, 0, row_k, queries, padded(count, number) // lanes, row_k // lanes,
            scale, scratch.crossed,
        )  # fmt: skip

    # phase: mask
    vectors = (keys + lanes - 1) // lanes
    if scale[3] > 0:
        cap(s, queries * room // TILE, TILE // lanes, scale[1], scale[3])
    for r in range(queries):
        h, i = r // seqlen_q, r % seqlen_q
        if rules.bias_row > 0:
            bias = (head + h) * rules.bias_row + i - begin + seqlen_kv - 1
            for key in range(keys):
                s[r * room + key] += rules.bias[bias - key]
        last = hide_gaps(s, r * room, rules, seqlen_q, i, begin, keys)
        # phase: softmax
        seen, beyond = wide(rules.low[i]) - begin, min(last - begin, keys)
        weigh_row(s, p, r * room, vectors, seen, beyond, rules.low, moved(state, 2 * r))

    whole = keys - keys % pair if in_place(v, words) else 0
    row = v.row // pair
    # phase: pv
    add_sums(
        sums, row_v * pair, p, 0, SPLIT, flat(v, words), begin * row, row, queries, row_v * pair // lanes, whole // pair
    )  # fmt: skip
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_v, v, begin + block, count)  # phase: copies
        fill(tile, count * row_v, count % pair * row_v, 0)
        add_sums(
            sums, row_v * pair, p, block // pair, SPLIT, tile, 0, row_v, queries, row_v * pair // lanes,
            (count + pair - 1) // pair,
        )  # fmt: skip


@compiled
def merge(
    out: Matrix, lse: Matrix, sink: float, sums: Pointer, state: Pointer, splits: int, queries: int, row: int,
    rows: int, row_size: int, spare: Pointer,
) -> None:  # fmt: skip
    """Merge the splits of one head's queries into output and LSE.

    Args:
        out: to fill, (seqlen_q, head_dim_v).
        lse: to fill, (seqlen_q, 1).
        sink: of this head; -inf is none.
        sums: (splits, queries, head_dim_v padded); the first split's is overwritten.
        state: (splits, queries, 2).
        splits: number of splits.
        queries: number of queries of all heads that share keys.
        row: index of this head's first query among these.
        rows: number of this head's queries.
        row_size: head_dim_v, padded.
        spare: room for one register of numbers of the output's dtype.
    """
    # phase: softmax
    for i in range(rows):
        r = row + i
        highest = sink
        for split in range(splits):
            score = state[2 * (split * queries + r)]
            highest = max(highest, score)
        base = highest if highest > -np.inf else np.float32(0)
        weight = np.exp(sink - base)
        for split in range(splits):
            at = split * queries + r
            factor = np.exp(state[2 * at] - base)
            weight += state[2 * at + 1] * factor
            for d in range(row_size):
                before = sums[r * row_size + d] if split else np.float32(0)
                sums[r * row_size + d] = sums[at * row_size + d] * factor + before
        inverse = 1 / weight if weight != 0 else 0
        for d in range(row_size):
            sums[r * row_size + d] *= inverse
        lse.data[i * lse.row] = highest + np.log(weight)
        unpack(out, i, sums, r * row_size, row_size, 1, spare)


@compiled
def merge_group(
    out: Tensor, lse: Tensor, sinks: Pointer, sums: Pointer, states: Pointer, sizes: Sizes, owner: int, splits: int,
    row_size: int, spare: Pointer,
) -> None:  # fmt: skip
    """Merge the splits of all query heads that share one key head, ``owner``, into ``out`` and ``lse``.

    Args:
        out: (batch, heads_q, seqlen_q, head_dim_v).
        lse: (batch, heads_q, seqlen_q, 1).
        sinks: (heads_q,).
        sums: (owners, splits, queries, row_size), where queries are the group's; overwritten.
        states: (owners, splits, queries, 2).
        sizes: sizes of the case.
        owner: batch element * heads_kv + key head.
        splits: number of splits of the keys.
        row_size: head_dim_v, padded.
        spare: room for one register of numbers of the output's dtype.
    """
    group, rows = sizes.heads_q // sizes.heads_kv, sizes.seqlen_q
    b, first, queries = owner // sizes.heads_kv, owner % sizes.heads_kv * group, group * rows
    at = owner * splits * queries
    for head in range(first, first + group):
        merge(
            matrix_of(out, b, head, sizes.head_dim_v), matrix_of(lse, b, head, 1), sinks[head],
            moved(sums, at * row_size), moved(states, at * 2), splits, queries, (head - first) * rows, rows, row_size,
            spare,
        )  # fmt: skip


def decode_cut(sizes: Sizes, dtypes: Dtypes, threads: int, splits: int) -> Cut:
    """Divide the keys into splits; shared memory holds their sums of values, followed by their states."""
    pair = 2 if dtypes.words is np.int32 else 1
    lanes = TARGET.lanes(8 * np.dtype(dtypes.number).itemsize)
    owners, queries = sizes.batch * sizes.heads_kv, sizes.heads_q // sizes.heads_kv * sizes.seqlen_q
    del threads
    row = -(-sizes.head_dim_v // (pair * lanes)) * lanes * pair
    return Cut((splits, 0), owners * splits, 1 + owners, owners * splits * queries * (row + 2))


def decode_for(sources: int, dtypes: Dtypes) -> Callable[..., None]:
    """Return the forward pass for a few queries, a function that closes over ``sources`` (see ``entry.py``)."""
    kind, index, words, number = dtypes

    def decode(block: Pointer) -> None:
        """Do the work of one thread: splits, until none are left, and a merge after the last split of an owner.

        There are at most ``QUERIES`` queries per head. The block's tensors are Q, K, V, the output and the LSE, and its
        first number is the number of splits. Its counters count tasks and then, for each group of heads, finished
        splits. Shared memory holds sums of weighted values, (groups of heads, splits, queries of a group, head_dim_v
        padded), followed by the largest score and the sum of weights of each, likewise.
        """
        assert sources >= 0
        sizes, rules, splits = sizes_in(block), rules_in(block, index, number), block[CUT]
        q, k, v = tensor_in(block, 0, kind), tensor_in(block, 1, kind), tensor_in(block, 2, kind)
        out, lse = tensor_in(block, 3, kind), tensor_in(block, 4, number)
        pair, seqlen_q, counter = per_word(words), sizes.seqlen_q, TENSORS + 5 * WORDS
        owners, group = sizes.batch * sizes.heads_kv, sizes.heads_q // sizes.heads_kv
        row_k, row_v = padded_row(sizes.head_dim, words), padded_row(sizes.head_dim_v, words)
        queries, row_size = group * seqlen_q, row_v * pair
        partial = pointer(block[SHARED], number)
        states = moved(partial, owners * splits * queries * row_size)
        _, size = scratch_at(0, queries, row_k, row_v, kind, words, number)
        memory = allocate(size + TILE)
        scratch, _ = scratch_at(line_from(memory), queries, row_k, row_v, kind, words, number)
        task = next_task(block, counter)
        while task < owners * splits:
            owner, split = task // splits, task % splits
            b, g = owner // sizes.heads_kv, owner % sizes.heads_kv
            own = rules_of(rules, b, seqlen_q)
            keys = moved(own.stretches, 2 * (b * splits + split))
            attend_split(
                q, keys_of(k, own, b, g, sizes.head_dim), keys_of(v, own, b, g, sizes.head_dim_v), sizes, own, b,
                g * group, keys[0], keys[1], moved(partial, task * queries * row_size),
                moved(states, task * queries * 2), scratch,
            )  # fmt: skip
            if next_task(block, counter + 1 + owner) == splits - 1:
                merge_group(out, lse, rules.sinks, partial, states, sizes, owner, splits, row_size, scratch.spare)
            task = next_task(block, counter)
        release(memory)

    return decode
