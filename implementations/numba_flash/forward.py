"""The forward pass, as in Dao, "FlashAttention-2" (2023), algorithm 1, with everything transposed.

A task is a block of queries of a few heads that share their keys. Keys and values are streamed past it, ``BLOCK_KV`` at
a time, and for each tile of queries

    S^T = K Q^T          a register holds one key's scores with 16 queries
    P^T = exp(S^T - max) and O^T is corrected whenever a larger score turns up
    O^T = O^T + V^T P^T

Both products read K and V a number at a time, as they lie in memory, so neither is transposed; only Q and O are, once
for each task. What a tile needs stays in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from .compiling import Array, compiled
from .product import multiply, multiply_add
from .scheduling import counters, next_task
from .simd import lanes_of, load, store, transpose
from .softmax import LOG2_E, TILE, add_bias, cap, hide, weigh
from .tiles import aligned, flat, in_place, is_packed, pack, pack_for_sum, padded, per_word, unpack, wide

BLOCK_KV = 128
TILES = 8  # of one task: what K and V that were packed are used for


@compiled
def bounds_of_tile(low: Array, high: Array, at: int, count: int) -> tuple[int, int, int, int]:
    """First key that any of a tile's rows sees, the first beyond; and the run of keys that all of them see."""
    first, beyond, from_all, to_all = wide(high[at]), 0, 0, wide(high[at])
    for i in range(at, at + count):
        if low[i] < high[i]:
            first, beyond = min(first, wide(low[i])), max(beyond, wide(high[i]))
        from_all, to_all = max(from_all, wide(low[i])), min(to_all, wide(high[i]))
    return min(first, beyond), beyond, from_all, to_all


class Scratch(NamedTuple):
    """The scratch memory of a thread: room for a task of the size that :func:`shape_of_tasks` says.

    Attributes:
        qt: Q^T of each tile, (heads * tiles, head_dim, TILE), in words.
        ot: O^T of each tile, (heads * tiles, head_dim_v, TILE).
        highest: as :func:`softmax.weigh` says, (heads * tiles, TILE); so are the next two.
        total: likewise.
        rescale: (TILE,).
        lows: first key that a row sees, (tiles, TILE).
        highs: the first beyond, likewise.
        bounds: what :func:`bounds_of_tile` says of each tile, (tiles, 4).
        k: a block of K, where it is not read from where it lies.
        v: the same of V.
        s: a tile of scores, (BLOCK_KV, TILE).
        p: its weights, in words.
        loaded: a tile's queries before they are transposed, (TILE, head_dim), in words.
        natural: its output after that, (TILE, head_dim_v).
        spare: for :func:`tiles.unpack`.
    """

    qt: Array
    ot: Array
    highest: Array
    total: Array
    rescale: Array
    lows: Array
    highs: Array
    bounds: Array
    k: Array
    v: Array
    s: Array
    p: Array
    loaded: Array
    natural: Array
    spare: Array


@compiled
def scratch_for(
    heads: int, tiles: int, head_dim: int, head_dim_v: int, out: Array, low: Array, words: Array, number: Array
) -> Scratch:
    """Room for tasks of ``heads`` heads and ``tiles`` tiles of each; the arrays are there for their types."""
    pair = per_word(words)
    row_k, row_v, row_o = (
        padded((head_dim + pair - 1) // pair, words),
        padded(head_dim_v, words),
        padded(head_dim_v, number),
    )
    return Scratch(
        aligned(heads * tiles * row_k * TILE, words),
        aligned(heads * tiles * row_o * TILE, number),
        aligned(heads * tiles * TILE, number),
        aligned(heads * tiles * TILE, number),
        aligned(TILE, number),
        aligned(tiles * TILE, low),
        aligned(tiles * TILE, low),
        np.empty((tiles, 4), np.int64),
        aligned(BLOCK_KV * row_k, words),
        aligned(BLOCK_KV // pair * row_v, words),
        aligned(BLOCK_KV * TILE, number),
        aligned(BLOCK_KV // pair * TILE, words),
        aligned(TILE * row_k, words),
        aligned(TILE * row_o, number),
        np.empty((1, lanes_of(number)), out.dtype),
    )


@compiled
def begin_task(
    q: Array, low: Array, high: Array, sinks: Array, head: int, heads: int, start: int, tiles: int, row_k: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Load a task's queries, what they see, and what the softmax of each begins with."""
    seqlen_q, pair = q.shape[1], per_word(scratch.qt)
    inner = (q.shape[2] + pair - 1) // pair
    lows, highs, bounds = scratch.lows, scratch.highs, scratch.bounds
    for i in range(tiles):
        row = start + i * TILE
        count = min(TILE, seqlen_q - row)
        for lane in range(TILE):  # lanes without a row see what the last row sees; nobody will look at them
            source = row + min(lane, count - 1)
            lows[i * TILE + lane], highs[i * TILE + lane] = low[source], high[source]
        bounds[i] = bounds_of_tile(low, high, row, count)
        for h in range(heads):
            t = h * tiles + i
            pack(scratch.loaded, 0, row_k, q[head + h], row, count)
            scratch.loaded[count * row_k : TILE * row_k] = 0
            transpose(scratch.qt, t * row_k * TILE, TILE, scratch.loaded, 0, row_k, count, inner)
            scratch.highest[t * TILE : (t + 1) * TILE] = sinks[head + h] * LOG2_E
            # A sink is a key that was met before all others and has no value.
            scratch.total[t * TILE : (t + 1) * TILE] = 1 if sinks[head + h] > -np.inf else 0


@compiled
def end_task(
    out: Array, lse: Array, head: int, heads: int, start: int, tiles: int, row_o: int, scratch: Scratch
) -> None:
    """Sums of weighted values over those of weights, and the logarithms of these, to where the caller wants them."""
    seqlen_q, head_dim_v, lanes = out.shape[1], out.shape[2], lanes_of(scratch.ot)
    ot, inverse = scratch.ot, scratch.rescale
    for h in range(heads):
        for i in range(tiles):
            t, row = h * tiles + i, start + i * TILE
            count = min(TILE, seqlen_q - row)
            if scratch.bounds[i, 0] >= scratch.bounds[i, 1]:  # no key was seen, and nothing was ever stored
                ot[t * row_o * TILE : (t + 1) * row_o * TILE] = 0
            for lane in range(count):
                weight = scratch.total[t * TILE + lane]
                lse[head + h, row + lane] = scratch.highest[t * TILE + lane] / LOG2_E + np.log(weight)
                inverse[lane] = 1 / weight if weight != 0 else 0  # NaN stays NaN
            for d in range(head_dim_v):
                for lane in range(0, count, lanes):
                    at = (t * row_o + d) * TILE + lane
                    store(ot, at, load(ot, at) * load(inverse, lane))
            transpose(scratch.natural, 0, row_o, ot, t * row_o * TILE, TILE, head_dim_v, count)
            unpack(out[head + h], row, scratch.natural, 0, row_o, count, scratch.spare)


@compiled
def attend(
    q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array,
    scale: Array, softcap: float, head: int, heads: int, start: int, tiles: int, scratch: Scratch,
) -> None:  # fmt: skip
    """One task: rows ``start`` and following of ``heads`` heads from ``head`` on, which share ``k`` and ``v``.

    Args:
        q: (heads_q, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        out: to fill, (heads_q, seqlen_q, head_dim_v).
        lse: to fill, (heads_q, seqlen_q).
        low: (seqlen_q,); this and the following are told in ``entry.py``.
        high: (seqlen_q,).
        bias: (heads_q, any).
        sinks: (heads_q,).
        scale: (3,).
        softcap: of the scores.
        head: first head.
        heads: how many.
        start: first row.
        tiles: of rows, for each head.
        scratch: as said.
    """
    seqlen_q, seqlen_kv, head_dim_v = q.shape[1], k.shape[0], v.shape[1]
    qt, ot, s, p, bounds = scratch.qt, scratch.ot, scratch.s, scratch.p, scratch.bounds
    lanes, pair = lanes_of(s), per_word(qt)
    inner = (k.shape[1] + pair - 1) // pair
    row_k, row_v, row_o = padded(inner, qt), padded(head_dim_v, qt), padded(head_dim_v, ot)
    # Where K and V lie in memory as the kernels want them, row behind row, they are read from there.
    k_in_place, v_in_place = in_place(k, qt) and is_packed(k), pair == 1 and in_place(v, qt) and is_packed(v)
    k_tile, v_tile = flat(k, qt) if k_in_place else scratch.k, flat(v, qt) if v_in_place else scratch.v
    k_at, v_at = 0, 0
    unit = scale[1] if softcap > 0 or bias.shape[1] > 0 else scale[0]  # what the softmax has to multiply scores by

    # phase: copies
    begin_task(q, low, high, sinks, head, heads, start, tiles, row_k, scratch)
    first, beyond = seqlen_kv, 0
    for i in range(tiles):
        if bounds[i, 0] < bounds[i, 1]:
            first, beyond = min(first, bounds[i, 0]), max(beyond, bounds[i, 1])
    for block in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        # phase: copies
        begin, end = max(first, block), min(beyond, block + BLOCK_KV)
        begin -= (begin - block) % 2
        if k_in_place:
            k_at = begin * row_k
        else:
            pack(k_tile, 0, row_k, k, begin, end - begin)
        if v_in_place:
            v_at = begin * row_v
        else:
            pack_for_sum(v_tile, 0, row_v, v, begin, end - begin)
        for i in range(tiles):
            from_key, to_key = max(begin, bounds[i, 0]), min(end, bounds[i, 1])
            from_key -= (from_key - begin) % 2
            keys = to_key - from_key
            if keys <= 0:
                continue
            row = start + i * TILE
            vectors = (min(TILE, seqlen_q - row) + lanes - 1) // lanes
            k_from, v_from = k_at + (from_key - begin) * row_k, v_at + (from_key - begin) // pair * row_v
            words = (keys + pair - 1) // pair
            for h in range(heads):
                t = h * tiles + i
                # phase: qk
                multiply(s, 0, TILE, k_tile, k_from, row_k, 1, qt, t * row_k * TILE, TILE, keys, vectors, inner)
                # phase: mask
                if softcap > 0:
                    cap(s, keys, vectors, scale[0], softcap)
                if bias.shape[1] > 0:
                    add_bias(
                        s, keys, vectors, scale[1] if softcap > 0 else scale[0], from_key, row, bias[head + h],
                        seqlen_kv,
                    )  # fmt: skip
                if from_key < bounds[i, 2] or to_key > bounds[i, 3]:
                    hide(s, keys, vectors, from_key, scratch.lows, scratch.highs, i * TILE)
                # phase: softmax
                weigh(s, p, keys, vectors, unit, scratch.highest, scratch.total, scratch.rescale, t * TILE)
                # phase: pv
                at = t * row_o * TILE
                if from_key <= bounds[i, 0]:  # the tile's first block
                    multiply(ot, at, TILE, v_tile, v_from, 1, row_v, p, 0, TILE, head_dim_v, vectors, words)
                else:
                    multiply_add(
                        ot, at, TILE, v_tile, v_from, 1, row_v, p, 0, TILE, head_dim_v, vectors, words, scratch.rescale,
                        0
                    )  # fmt: skip
    # phase: copies
    end_task(out, lse, head, heads, start, tiles, row_o, scratch)


@compiled
def work(
    q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array, scale:
    Array, softcap: float, words: Array, number: Array, heads: int, tiles: int, counter: Array,
) -> None:  # fmt: skip
    """The work of one thread: tasks of ``heads`` heads and ``tiles`` tiles of each, until ``counter`` has no more.

    The other arguments are told in ``entry.py``.
    """
    batch, heads_q, seqlen_q, head_dim = q.shape
    group = heads_q // k.shape[1]
    scratch = scratch_for(
        heads, min(tiles, (seqlen_q + TILE - 1) // TILE), head_dim, v.shape[3], out, low, words, number
    )  # fmt: skip
    blocks, together = (seqlen_q + TILE * tiles - 1) // (TILE * tiles), batch * heads_q // heads
    task = next_task(counter, 0)
    while task < blocks * together:
        start = (blocks - 1 - task // together) * TILE * tiles  # the last rows of a causal mask see the most
        b, head = task % together * heads // heads_q, task % together * heads % heads_q
        g = head // group
        count = min(tiles, (seqlen_q - start + TILE - 1) // TILE)
        attend(
            q[b], k[b, g], v[b, g], out[b], lse[b], low[b], high[b], bias, sinks, scale, softcap, head, heads, start,
            count, scratch,
        )  # fmt: skip
        task = next_task(counter, 0)


@compiled
def shape_of_tasks(batch: int, heads_q: int, heads_kv: int, seqlen_q: int, threads: int) -> tuple[int, int]:
    """Heads of a task, which share their keys, and tiles of each: ``TILES`` in all, or fewer, to occupy all threads."""
    group = heads_q // heads_kv
    heads = min(group, TILES)
    while group % heads:
        heads -= 1
    tiles = TILES // heads
    while tiles > 1 and batch * heads_q // heads * ((seqlen_q + TILE * tiles - 1) // (TILE * tiles)) < 4 * threads:
        tiles //= 2
    return heads, tiles


def forward_for(sources: int) -> Callable[..., None]:
    """The forward pass; a function that closes over ``sources``, as ``entry.py`` says why."""

    def forward(
        q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array, scale:
        Array, softcap: float, words: Array, number: Array, threads: int,
    ) -> None:  # fmt: skip
        """Attention of all heads: fills ``out`` and ``lse``."""
        assert sources >= 0
        heads, tiles = shape_of_tasks(q.shape[0], q.shape[1], k.shape[1], q.shape[2], threads)
        counter = counters(1)
        for _ in prange(threads):
            work(
                q, k, v, out, lse, low, high, bias, sinks, scale, softcap, words, number, heads, tiles, counter
            )  # fmt: skip

    return forward
