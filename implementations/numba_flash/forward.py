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

import numpy as np
from numba import prange

from .compiling import Array, compiled
from .product import multiply, multiply_add
from .scheduling import counters, next_task
from .simd import lanes_of, load, store
from .softmax import TILE, add_bias, cap, hide, weigh
from .tiles import aligned, flat, in_place, is_packed, pack, pack_for_sum, padded, per_word, transpose, unpack, wide

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


@compiled
def attend(
    q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array,
    scale: Array, softcap: float, head: int, heads: int, start: int, tiles: int, words: Array, number: Array,
) -> None:  # fmt: skip
    """One task: rows ``start`` and following of ``heads`` heads from ``head`` on, which share ``k`` and ``v``.

    Args:
        q: (heads_q, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        out: to fill, (heads_q, seqlen_q, head_dim_v).
        lse: to fill, (heads_q, seqlen_q).
        low: (seqlen_q,); this and the following are told in :func:`forward`.
        high: (seqlen_q,).
        bias: (heads_q, any).
        sinks: (heads_q,).
        scale: (1,).
        softcap: of the scores.
        head: first head.
        heads: how many.
        start: first row.
        tiles: of rows, for each head.
        words: an array of the type in which Q, K, V and the weights are multiplied.
        number: an array of the type in which they are added up.
    """
    seqlen_q, seqlen_kv, head_dim_v = q.shape[1], k.shape[0], v.shape[1]
    pair = per_word(words)
    inner = (k.shape[1] + pair - 1) // pair
    row_k, row_v, row_o = padded(inner, words), padded(head_dim_v, words), padded(head_dim_v, number)
    lanes = lanes_of(number)

    qt, ot = aligned(heads * tiles * row_k * TILE, words), aligned(heads * tiles * row_o * TILE, number)
    highest, total = aligned(heads * tiles * TILE, number), aligned(heads * tiles * TILE, number)
    rescale = aligned(TILE, number)
    lows, highs = aligned(tiles * TILE, low), aligned(tiles * TILE, low)
    bounds = np.empty((tiles, 4), np.int64)
    loaded, natural = aligned(TILE * row_k, words), aligned(TILE * row_o, number)
    # Where K and V lie in memory as the kernels want them, row behind row, they are read from there.
    k_in_place, v_in_place = in_place(k, words) and is_packed(k), pair == 1 and in_place(v, words) and is_packed(v)
    k_tile = flat(k, words) if k_in_place else aligned(BLOCK_KV * row_k, words)
    v_tile = flat(v, words) if v_in_place else aligned(BLOCK_KV * row_v, words)
    k_at, v_at = 0, 0
    s = aligned(BLOCK_KV * TILE, number)
    p = aligned(BLOCK_KV * TILE, words)
    spare = np.empty((1, lanes), out.dtype)

    ot[:] = 0
    first, beyond = seqlen_kv, 0
    for i in range(tiles):
        row = start + i * TILE
        count = min(TILE, seqlen_q - row)
        for lane in range(TILE):  # lanes without a row see what the last row sees; nobody will look at them
            lows[i * TILE + lane], highs[i * TILE + lane] = (
                low[row + min(lane, count - 1)],
                high[row + min(lane, count - 1)],
            )
        bounds[i] = bounds_of_tile(low, high, row, count)
        first, beyond = min(first, bounds[i, 0]), max(beyond, bounds[i, 1])
        for h in range(heads):
            t = h * tiles + i
            pack(loaded, 0, row_k, q[head + h], row, count)
            loaded[count * row_k :] = 0
            transpose(qt, t * row_k * TILE, TILE, loaded, 0, row_k, count, inner)
            highest[t * TILE : (t + 1) * TILE] = sinks[head + h]
            # A sink is a key that was met before all others and has no value.
            total[t * TILE : (t + 1) * TILE] = 1 if sinks[head + h] > -np.inf else 0

    for block in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
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
            offset = from_key - begin
            for h in range(heads):
                t = h * tiles + i
                multiply(
                    s,
                    0,
                    TILE,
                    k_tile,
                    k_at + offset * row_k,
                    row_k,
                    1,
                    qt,
                    t * row_k * TILE,
                    TILE,
                    keys,
                    vectors,
                    inner,
                    scale,
                )
                if softcap > 0:
                    cap(s, keys, vectors, softcap)
                if bias.shape[1] > 0:
                    add_bias(s, keys, vectors, from_key, row, bias[head + h], seqlen_kv)
                if from_key < bounds[i, 2] or to_key > bounds[i, 3]:
                    hide(s, keys, vectors, from_key, lows, highs, i * TILE)
                weigh(s, p, keys, vectors, highest, total, rescale, t * TILE)
                multiply_add(
                    ot, t * row_o * TILE, TILE, v_tile, v_at + offset // pair * row_v, 1, row_v, p, 0, TILE, head_dim_v,
                    vectors, (keys + pair - 1) // pair, rescale, 0,
                )  # fmt: skip

    for h in range(heads):
        for i in range(tiles):
            t = h * tiles + i
            row = start + i * TILE
            count = min(TILE, seqlen_q - row)
            for lane in range(count):
                weight = total[t * TILE + lane]
                lse[head + h, row + lane] = highest[t * TILE + lane] + np.log(weight)
                rescale[lane] = 1 / weight if weight != 0 else 0  # NaN stays NaN
            for d in range(head_dim_v):
                for lane in range(0, count, lanes):
                    at = (t * row_o + d) * TILE + lane
                    store(ot, at, load(ot, at) * load(rescale, lane))
            transpose(natural, 0, row_o, ot, t * row_o * TILE, TILE, head_dim_v, count)
            unpack(out[head + h], row, natural, 0, row_o, count, spare)


@compiled
def work(
    q: Array, k: Array, v: Array, out: Array, lse: Array, low: Array, high: Array, bias: Array, sinks: Array, scale:
    Array, softcap: float, words: Array, number: Array, heads: int, tiles: int, counter: Array,
) -> None:  # fmt: skip
    """What one thread does: tasks of ``heads`` heads and ``tiles`` tiles of each, until ``counter`` has no more.

    The other arguments are told in ``entry.py``.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    group = heads_q // k.shape[1]
    blocks, together = (seqlen_q + TILE * tiles - 1) // (TILE * tiles), batch * heads_q // heads
    task = next_task(counter, 0)
    while task < blocks * together:
        start = (blocks - 1 - task // together) * TILE * tiles  # the last rows of a causal mask see the most
        b, head = task % together * heads // heads_q, task % together * heads % heads_q
        g = head // group
        count = min(tiles, (seqlen_q - start + TILE - 1) // TILE)
        attend(
            q[b], k[b, g], v[b, g], out[b], lse[b], low[b], high[b], bias, sinks, scale, softcap, head, heads, start,
            count, words, number,
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
