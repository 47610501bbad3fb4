"""A few queries over many keys, as when text is generated: the keys are split, and what the splits give is merged.

With so few queries a register of 16 would be nearly empty, so here rows of K and V lie along the registers::

    S = Q K^T            dot products; a register of the result holds one query's scores with 16 keys
    P = exp(S - max)
    O = O + P V          a register holds 16 columns of V and of O

All queries of all heads that share their keys go together, so that each key is read from memory once: that is what such
a call costs. A split has a fixed number of keys, so that the result does not hang on the number of threads. Dao,
Haziza, Massa and Sizov, "Flash-Decoding for long-context inference" (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from .compiling import Array, chosen_by_types, compiled
from .scheduling import counters, next_task
from .simd import exp, lane_numbers, lanes_of, largest_of, load, maximum, select, spread, store, sum_of
from .softmax import TILE, cap
from .streaming import TOGETHER, add_sums, multiply_rows
from .tiles import aligned, flat, in_place, pack, padded, per_word, store_halves, unpack, wide

QUERIES = 16  # of a head: with more of them registers fill with queries
SPLIT = 512  # keys, or pairs of bfloat16: half a MiB of K and V at a head_dim of 128


def store_weights(p: Array, at: int, weights: Array) -> None:
    """A vector of weights of neighbouring keys, from number ``at`` of ``p`` on."""
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(store_weights)
def _store_weights(p: Array, at: int, weights: Array) -> Any:
    def numbers(p: Array, at: int, weights: Array) -> None:
        store(p, at, weights)

    def pairs(p: Array, at: int, weights: Array) -> None:
        store_halves(p, at // 2, weights)

    return pairs if isinstance(p.dtype, types.Integer) else numbers


@compiled
def weigh_row(s: Array, p: Array, at: int, vectors: int, low: int, high: int, index: Array, state: Array) -> None:
    """One query's softmax, not normalised: its scores from ``s[at]`` on to weights in ``p``.

    Args:
        s: scores, (queries, keys of a split).
        p: weights, likewise; in words, a word is two neighbouring keys.
        at: where the query's row begins.
        vectors: registers of keys.
        low: first key that the query sees, counted from the row's first.
        high: first key beyond, likewise.
        index: an array of the integers that keys are counted in.
        state: to fill: the largest score, and the sum of the weights.
    """
    lanes = lanes_of(s)
    hidden = spread(s, s.dtype.type(-np.inf))
    first, beyond = spread(index, index.dtype.type(low)), spread(index, index.dtype.type(high))
    highest = hidden
    for vector in range(vectors):
        key = lane_numbers(index) + spread(index, index.dtype.type(vector * lanes))
        score = select((first <= key) & (key < beyond), load(s, at + vector * lanes), hidden)
        store(s, at + vector * lanes, score)
        highest = maximum(score, highest)
    state[0] = largest_of(highest)
    base = spread(s, state[0] if state[0] > -np.inf else s.dtype.type(0))
    total = spread(s, s.dtype.type(0))
    for vector in range(vectors):
        weights = exp(load(s, at + vector * lanes) - base)  # phase: exp
        store_weights(p, at + vector * lanes, weights)
        total = total + weights
    state[1] = sum_of(total)


@compiled
def padded_row(width: int, words: Array) -> int:
    """Words of a row of so many numbers, padded to whole registers."""
    pair = per_word(words)
    return padded((width + pair - 1) // pair, words)


@compiled
def attend_split(
    q: Array, k: Array, v: Array, low: Array, high: Array, bias: Array, scale: Array, softcap: float, begin: int, end:
    int, partial: Array, state: Array, words: Array, number: Array,
) -> None:  # fmt: skip
    """Some keys, and all queries that share them: fills ``partial`` and ``state``.

    Args:
        q: (group, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        low: (seqlen_q,); this and the following are told in :func:`forward.forward`.
        high: (seqlen_q,).
        bias: (group, any).
        scale: (1,).
        softcap: of the scores.
        begin: first key.
        end: first key beyond.
        partial: sums of weighted values, (group * seqlen_q, head_dim_v padded).
        state: largest score and sum of weights, (group * seqlen_q, 2).
        words: an array of the type in which Q, K, V and the weights are multiplied.
        number: an array of the type in which they are added up.
    """
    group, seqlen_q, seqlen_kv, head_dim_v = q.shape[0], q.shape[1], k.shape[0], v.shape[1]
    queries, keys = group * seqlen_q, end - begin
    pair, lanes = per_word(words), lanes_of(number)
    room = SPLIT * pair  # of a row of scores
    row_k, row_v = padded_row(k.shape[1], words), padded_row(head_dim_v, words)  # in words
    q_rows = aligned(queries * row_k, words)
    s, p = aligned(queries * room, number), aligned(queries * SPLIT, words)
    scratch = aligned(TOGETHER * lanes * lanes, number)
    sums = partial.reshape(partial.size)
    # phase: copies
    sums[:] = 0
    for h in range(group):
        pack(q_rows, h * seqlen_q * row_k, row_k, q[h], 0, seqlen_q)

    # Where K and V lie in memory as the kernels want them, they are read from there; the rest is copied to a tile.
    whole = keys - keys % lanes if in_place(k, words) else 0
    row = k.strides[0] // words.itemsize
    # phase: qk
    multiply_rows(
        s, room, 0, q_rows, row_k, flat(k, words), begin * row, row, queries, whole // lanes, row_k // lanes, scale,
        scratch,
    )  # fmt: skip
    tile = aligned(TILE * max(row_k, row_v) if whole < keys or not in_place(v, words) else 0, words)
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_k, k, begin + block, count)  # phase: copies
        tile[count * row_k : (count + lanes - 1) // lanes * lanes * row_k] = 0
        multiply_rows(
            s, room, block, q_rows, row_k, tile, 0, row_k, queries, (count + lanes - 1) // lanes, row_k // lanes,
            scale, scratch,
        )  # fmt: skip

    # phase: mask
    vectors = (keys + lanes - 1) // lanes
    if softcap > 0:
        cap(s, queries * room // TILE, TILE // lanes, scale[1], softcap)
    for r in range(queries):
        h, i = r // seqlen_q, r % seqlen_q
        if bias.shape[1] > 0:
            for key in range(keys):
                s[r * room + key] += bias[h, i - begin - key + seqlen_kv - 1]
        beyond = min(wide(high[i]) - begin, keys)
        # phase: softmax
        weigh_row(s, p, r * room, vectors, wide(low[i]) - begin, beyond, low, state[r])

    whole = keys - keys % pair if in_place(v, words) else 0
    row = v.strides[0] // words.itemsize
    # phase: pv
    add_sums(
        sums, row_v * pair, p, 0, SPLIT, flat(v, words), begin * row, row, queries, row_v * pair // lanes, whole
        // pair,
    )  # fmt: skip
    for block in range(whole, keys, TILE):
        count = min(TILE, keys - block)
        pack(tile, 0, row_v, v, begin + block, count)  # phase: copies
        tile[count * row_v : (count + count % pair) * row_v] = 0
        add_sums(
            sums, row_v * pair, p, block // pair, SPLIT, tile, 0, row_v, queries, row_v * pair // lanes, (count
            + pair - 1) // pair,
        )  # fmt: skip


@compiled
def merge(out: Array, lse: Array, sink: float, partial: Array, state: Array, row: int, spare: Array) -> None:
    """The splits of one head's queries to their output and LSE.

    Args:
        out: to fill, (seqlen_q, head_dim_v).
        lse: to fill, (seqlen_q,).
        sink: of this head; -inf is none.
        partial: (splits, queries, head_dim_v padded); the first split's is overwritten.
        state: (splits, queries, 2).
        row: of this head's first query among the queries.
        spare: one register's numbers of the output's dtype, (1, lanes).
    """
    # phase: softmax
    row_size = partial.shape[2]
    sums = partial.reshape(partial.size)
    for i in range(out.shape[0]):
        r = row + i
        highest = sink
        for split in range(state.shape[0]):
            score = state[split, r, 0]
            highest = max(highest, score)
        base = highest if highest > -np.inf else state.dtype.type(0)
        weight = np.exp(sink - base)
        for split in range(state.shape[0]):
            factor = np.exp(state[split, r, 0] - base)
            weight += state[split, r, 1] * factor
            for d in range(row_size):
                sums[r * row_size + d] = partial[split, r, d] * factor + (sums[r * row_size + d] if split else 0)
        inverse = 1 / weight if weight != 0 else 0
        for d in range(row_size):
            sums[r * row_size + d] *= inverse
        lse[i] = highest + np.log(weight)
        unpack(out, i, sums, r * row_size, row_size, 1, spare)


@compiled
def visible(low: Array, high: Array, begin: int, end: int) -> tuple[int, int]:
    """The run of keys within ``begin`` to ``end`` that any row sees; equal where none does."""
    first, beyond = end, begin
    for i in range(low.size):
        if low[i] < high[i]:
            first, beyond = min(first, wide(low[i])), max(beyond, wide(high[i]))
    first, beyond = max(first, begin), min(beyond, end)
    return first, max(first, beyond)


@compiled
def work(
    q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array, scale:
    Array, softcap: float, words: Array, number: Array, partial: Array, state: Array, counter: Array,
) -> None:  # fmt: skip
    """The work of one thread: splits, until there are none left; and the merging of those whose last split it did.

    ``partial`` is (groups of heads, splits, queries of a group, head_dim_v padded), and ``state``, with the largest
    score and the sum of weights, (groups of heads, splits, queries of a group, 2). ``counter`` counts tasks and then,
    for each group of heads, its splits that are done. The other arguments are told in ``entry.py``.
    """
    heads_kv, seqlen_kv, seqlen_q = k.shape[1], k.shape[2], q.shape[2]
    group, splits, size = q.shape[1] // heads_kv, partial.shape[1], SPLIT * per_word(words)
    spare = np.empty((1, lanes_of(number)), out.dtype)
    task = next_task(counter, 0)
    while task < partial.shape[0] * splits:
        owner, split = task // splits, task % splits
        b, g = owner // heads_kv, owner % heads_kv
        heads = slice(g * group, (g + 1) * group)
        first, beyond = visible(low[b], high[b], split * size, min(seqlen_kv, (split + 1) * size))
        attend_split(
            q[b, heads], k[b, g], v[b, g], low[b], high[b], bias[heads], scale, softcap, first, beyond,
            partial[owner, split], state[owner, split], words, number,
        )  # fmt: skip
        if next_task(counter, 1 + owner) == splits - 1:
            for h in range(group):
                merge(
                    out[b, g * group + h], lse[b, g * group + h], sinks[g * group + h], partial[owner], state[owner],
                    h * seqlen_q, spare,
                )  # fmt: skip
        task = next_task(counter, 0)


def decode_for(sources: int) -> Callable[..., None]:
    """The forward pass of a few queries; a function that closes over ``sources``, as ``entry.py`` says why."""

    def decode(
        q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array, scale:
        Array, softcap: float, words: Array, number: Array, threads: int,
    ) -> None:  # fmt: skip
        """Attention of at most ``QUERIES`` queries of each head: fills ``out`` and ``lse``."""
        assert sources >= 0
        owners, queries = q.shape[0] * k.shape[1], q.shape[1] // k.shape[1] * q.shape[2]
        splits = (k.shape[2] + SPLIT * per_word(words) - 1) // (SPLIT * per_word(words))
        partial = np.empty((owners, splits, queries, padded_row(v.shape[3], words) * per_word(words)), number.dtype)
        state = np.empty((owners, splits, queries, 2), number.dtype)
        counter = counters(1 + owners)
        for _ in prange(threads):
            work(
                q, k, v, out, lse, low, high, bias, sinks, scale, softcap, words, number, partial, state, counter
            )  # fmt: skip

    return decode
