"""The backward pass, as in Dao, "FlashAttention-2" (2023), algorithm 2, with blocks of queries outside.

For each tile of queries and block of keys, transposed as in the forward pass::

    S^T = K Q^T           P^T  = exp(S^T - LSE)
    dP^T = V dO^T         dS^T = P^T * (dP^T - delta)     delta = rowsum(dO * O)
    dV += P^T dO          dK += dS^T Q                    dQ^T += K^T dS^T

Five products, each computed once. A task owns its queries, so dQ is its own; dK and dV are added up over all queries of
the heads that share them, by one task where there are heads enough for all threads, and otherwise by several that each
have sums of their own, which are then added in a fixed order. Nothing is added by two threads to the same memory, so
that the result is always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from .compiling import Array, chosen_by_types, compiled
from .forward import bounds_of_tile
from .product import multiply, multiply_add
from .scheduling import counters, next_task
from .simd import exp, fma, lanes_of, load, select, spread, store, sum_of, transpose
from .softmax import TILE, add_bias, cap, hide
from .tiles import aligned, pack, pack_for_sum, padded, pair_vectors, per_word, store_halves, unpack

BLOCK_KV = 128
TILES = 4  # of queries in a task's block: what K and V that were packed are used for


def differentiate(
    s: Array, dp: Array, p_rows: Array, ds_rows: Array, ds_pairs: Array, keys: int, vectors: int, unit: float,
    lse: Array, delta: Array, at: int, softcap: float,
) -> None:  # fmt: skip
    """Weights P from scores, and dS from dP; through the cap where there is one.

    Args:
        s: scores, transposed, (keys, TILE).
        dp: gradients of the weights, likewise.
        p_rows: to fill: P, (keys, TILE); in words, a word is two neighbouring queries.
        ds_rows: to fill: dS, likewise.
        ds_pairs: to fill: dS; in words, a word is two neighbouring keys, (keys / 2, TILE). Else ``ds_rows`` itself.
        keys: as many.
        vectors: registers of queries.
        unit: what scores are to be multiplied by.
        lse: of the queries, from ``at`` on; +inf for those that see no key.
        delta: of the queries, from ``at`` on.
        at: where this tile's queries begin.
        softcap: of the scores; 0 is none.
    """
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(differentiate)
def _differentiate(
    s: Array, dp: Array, p_rows: Array, ds_rows: Array, ds_pairs: Array, keys: int, vectors: int, unit: float,
    lse: Array, delta: Array, at: int, softcap: float,
) -> Any:  # fmt: skip
    def numbers(
        s: Array, dp: Array, p_rows: Array, ds_rows: Array, ds_pairs: Array, keys: int, vectors: int, unit: float,
        lse: Array, delta: Array, at: int, softcap: float,
    ) -> None:  # fmt: skip
        lanes, scale, zero = lanes_of(s), spread(s, s.dtype.type(unit)), spread(s, s.dtype.type(0))
        for vector in range(vectors):
            v = vector * lanes
            normalizer, taken_off = zero - load(lse, at + v), load(delta, at + v)
            for key in range(keys):
                place = key * TILE + v
                score = load(s, place)
                weight = exp(fma(score, scale, normalizer))  # phase: exp
                store(p_rows, place, weight)
                gradient = weight * (load(dp, place) - taken_off)
                if softcap > 0:
                    gradient = through_cap(s, gradient, score, softcap)
                store(ds_rows, place, gradient)

    def pairs(
        s: Array, dp: Array, p_rows: Array, ds_rows: Array, ds_pairs: Array, keys: int, vectors: int, unit: float,
        lse: Array, delta: Array, at: int, softcap: float,
    ) -> None:  # fmt: skip
        lanes, scale, zero = lanes_of(s), spread(s, s.dtype.type(unit)), spread(s, s.dtype.type(0))
        for vector in range(vectors):
            v = vector * lanes
            normalizer, taken_off = zero - load(lse, at + v), load(delta, at + v)
            before = zero
            for key in range(keys):
                place = key * TILE + v
                score = load(s, place)
                weight = exp(fma(score, scale, normalizer))  # phase: exp
                store_halves(p_rows, place // 2, weight)
                gradient = weight * (load(dp, place) - taken_off)
                if softcap > 0:
                    gradient = through_cap(s, gradient, score, softcap)
                store_halves(ds_rows, place // 2, gradient)
                if key % 2:
                    store(ds_pairs, key // 2 * TILE + v, pair_vectors(ds_pairs, before, gradient))
                before = gradient
            if keys % 2:
                store(ds_pairs, keys // 2 * TILE + v, pair_vectors(ds_pairs, before, zero))

    return pairs if isinstance(p_rows.dtype, types.Integer) else numbers


@compiled
def through_cap(s: Array, gradient: Array, score: Array, softcap: float) -> Array:
    """The cap's derivative, from the capped score; that of a hidden key is -inf, and its gradient 0."""
    fraction = score * spread(s, s.dtype.type(1 / softcap))
    slope = fma(fraction, spread(s, s.dtype.type(0)) - fraction, spread(s, s.dtype.type(1)))
    return select(gradient == spread(s, s.dtype.type(0)), gradient, gradient * slope)


@compiled
def row_products(delta: Array, a: Array, b: Array, row_size: int, rows: int) -> None:
    """Sum of A * B along each row of two tiles: what the softmax's normalisation takes off the gradient."""
    lanes = lanes_of(a)
    for i in range(rows):
        total = spread(a, a.dtype.type(0))
        for d in range(0, row_size, lanes):
            total = fma(load(a, i * row_size + d), load(b, i * row_size + d), total)
        delta[i] = sum_of(total)


@compiled
def add_gradients(
    dout: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, dq: Array, dk_sum: Array, dv_sum: Array,
    low: Array, high: Array, bias: Array, scale: Array, softcap: float, start: int, tiles: int, words: Array,
    number: Array,
) -> None:  # fmt: skip
    """Gradients of a block of queries of one head: its rows of ``dq``, and its share of ``dk_sum`` and ``dv_sum``.

    Args:
        dout: (seqlen_q, head_dim_v).
        q: (seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        out: (seqlen_q, head_dim_v).
        lse: (seqlen_q,).
        dq: rows of it are filled, (seqlen_q, head_dim).
        dk_sum: (seqlen_kv, head_dim), padded and flat, still to be multiplied by the scale.
        dv_sum: (seqlen_kv, head_dim_v), padded and flat.
        low: (seqlen_q,); this and the following are told in :func:`forward.forward`.
        high: (seqlen_q,).
        bias: (any,).
        scale: (3,): that of the scores before a cap or the exponential, 1, and that of the gradients.
        softcap: of the scores.
        start: first row.
        tiles: of rows.
        words: an array of the type in which matrices are multiplied.
        number: an array of the type in which products are added up.
    """
    seqlen_q, seqlen_kv, head_dim, head_dim_v = q.shape[0], k.shape[0], k.shape[1], v.shape[1]
    pair = per_word(words)
    inner, inner_v = (head_dim + pair - 1) // pair, (head_dim_v + pair - 1) // pair
    row_k, row_v = padded(inner, words), padded(inner_v, words)  # in words
    row_d, row_o = padded(head_dim, number), padded(head_dim_v, number)  # in numbers
    lanes = lanes_of(number)

    qt, dot = aligned(tiles * row_k * TILE, words), aligned(tiles * row_v * TILE, words)
    q_sum, dout_sum = aligned(tiles * TILE * row_d, words), aligned(tiles * TILE * row_o, words)
    dq_t = aligned(tiles * row_d * TILE, number)
    normalizer, delta = aligned(tiles * TILE, number), aligned(tiles * TILE, number)
    lows, highs = aligned(tiles * TILE, low), aligned(tiles * TILE, low)
    bounds = np.empty((tiles, 4), np.int64)
    loaded = aligned(TILE * max(row_k, row_v), words)
    natural, other = aligned(TILE * max(row_d, row_o), number), aligned(TILE * row_o, number)
    k_tile, v_tile = aligned(BLOCK_KV * row_k, words), aligned(BLOCK_KV * row_v, words)
    k_sum = aligned(BLOCK_KV * row_d, words)
    s, dp = aligned(BLOCK_KV * TILE, number), aligned(BLOCK_KV * TILE, number)
    p_rows, ds_rows = aligned(BLOCK_KV * TILE // pair, words), aligned(BLOCK_KV * TILE // pair, words)
    ds_pairs = aligned(BLOCK_KV * TILE // pair, words) if pair > 1 else ds_rows
    ones = aligned(max(TILE, row_d, row_o), number)
    spare = np.empty((1, lanes), dq.dtype)

    unit = scale[1] if softcap > 0 or bias.size > 0 else scale[0]  # what remains to multiply scores by
    ones[:] = 1
    dq_t[:] = 0
    first, beyond = seqlen_kv, 0
    for i in range(tiles):
        row = start + i * TILE
        count = min(TILE, seqlen_q - row)
        for lane in range(TILE):  # lanes without a row see what the last row sees; their weights are 0
            source = row + min(lane, count - 1)
            lows[i * TILE + lane], highs[i * TILE + lane] = low[source], high[source]
            sees = (lane < count and lse[source] > -np.inf) or lse[source] != lse[source]
            normalizer[i * TILE + lane] = lse[source] if sees else np.inf
        bounds[i] = bounds_of_tile(low, high, row, count)
        first, beyond = min(first, bounds[i, 0]), max(beyond, bounds[i, 1])

        pack(loaded, 0, row_k, q, row, count)
        loaded[count * row_k : TILE * row_k] = 0
        transpose(qt, i * row_k * TILE, TILE, loaded, 0, row_k, TILE, inner)
        pack(loaded, 0, row_v, dout, row, count)
        loaded[count * row_v : TILE * row_v] = 0
        transpose(dot, i * row_v * TILE, TILE, loaded, 0, row_v, TILE, inner_v)
        q_sum[i * TILE * row_d : (i + 1) * TILE * row_d] = 0
        pack_for_sum(q_sum, i * TILE * row_d, row_d, q, row, count)
        dout_sum[i * TILE * row_o : (i + 1) * TILE * row_o] = 0
        pack_for_sum(dout_sum, i * TILE * row_o, row_o, dout, row, count)
        pack(natural, 0, row_o, dout, row, count)
        pack(other, 0, row_o, out, row, count)
        delta[i * TILE : (i + 1) * TILE] = 0
        row_products(delta[i * TILE :], natural, other, row_o, count)

    for block in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        # phase: copies
        begin, end = max(first, block), min(beyond, block + BLOCK_KV)
        begin -= (begin - block) % 2
        pack(k_tile, 0, row_k, k, begin, end - begin)
        pack(v_tile, 0, row_v, v, begin, end - begin)
        pack_for_sum(k_sum, 0, row_d, k, begin, end - begin)
        for i in range(tiles):
            from_key, to_key = max(begin, bounds[i, 0]), min(end, bounds[i, 1])
            from_key -= (from_key - begin) % 2
            keys = to_key - from_key
            if keys <= 0:
                continue
            row = start + i * TILE
            count = min(TILE, seqlen_q - row)
            vectors = (count + lanes - 1) // lanes
            offset = from_key - begin
            # phase: qk
            multiply(s, 0, TILE, k_tile, offset * row_k, row_k, 1, qt, i * row_k * TILE, TILE, keys, vectors, inner)
            # phase: mask
            if softcap > 0:
                cap(s, keys, vectors, scale[0], softcap)
            if bias.size > 0:
                add_bias(s, keys, vectors, scale[1] if softcap > 0 else scale[0], from_key, row, bias, seqlen_kv)
            if from_key < bounds[i, 2] or to_key > bounds[i, 3]:
                hide(s, keys, vectors, from_key, lows, highs, i * TILE)
            # phase: gradients
            multiply(
                dp,
                0,
                TILE,
                v_tile,
                offset * row_v,
                row_v,
                1,
                dot,
                i * row_v * TILE,
                TILE,
                keys,
                vectors,
                inner_v,
            )
            # phase: softmax
            differentiate(s, dp, p_rows, ds_rows, ds_pairs, keys, vectors, unit, normalizer, delta, i * TILE, softcap)
            # phase: gradients
            queries = (count + pair - 1) // pair
            multiply_add(
                dv_sum, from_key * row_o, row_o, p_rows, 0, TILE // pair, 1, dout_sum, i * TILE * row_o, row_o, keys,
                row_o // lanes, queries, ones, 0,
            )  # fmt: skip
            multiply_add(
                dk_sum, from_key * row_d, row_d, ds_rows, 0, TILE // pair, 1, q_sum, i * TILE * row_d, row_d, keys,
                row_d // lanes, queries, ones, 0,
            )  # fmt: skip
            multiply_add(
                dq_t, i * row_d * TILE, TILE, k_sum, offset // pair * row_d, 1, row_d, ds_pairs, 0, TILE, head_dim,
                vectors, (keys + pair - 1) // pair, ones, 0,
            )  # fmt: skip

    # phase: copies
    factor = spread(number, scale[2])
    for i in range(tiles):
        row = start + i * TILE
        for at in range(i * row_d * TILE, (i * row_d + head_dim) * TILE, lanes):
            store(dq_t, at, load(dq_t, at) * factor)
        transpose(natural, 0, row_d, dq_t, i * row_d * TILE, TILE, head_dim, TILE)
        unpack(dq, row, natural, 0, row_d, min(TILE, seqlen_q - row), spare)


@compiled
def finish(gradient: Array, total: Array, scale: float) -> None:
    """Sums to a gradient, (rows, width): multiplied by ``scale`` and rounded."""
    row_size, lanes = padded(gradient.shape[1], total), lanes_of(total)
    factor = spread(total, scale)
    for at in range(0, total.size, lanes):
        store(total, at, load(total, at) * factor)
    unpack(gradient, 0, total, 0, row_size, gradient.shape[0], np.empty((1, lanes), gradient.dtype))


@compiled
def work(
    dout: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, dq: Array, dk: Array, dv: Array, low: Array,
    high: Array, bias: Array, scale: Array, softcap: float, words: Array, number: Array, parts: int, shared: Array,
    counter: Array,
) -> None:  # fmt: skip
    """The work of one thread: the heads that share keys, or a part of their queries, until there are none left.

    The queries of a group of heads are cut into ``parts``. ``shared`` has the sums of dK and dV of each, (groups of
    heads * parts, both sizes), and is empty where there is one part. ``counter`` counts tasks and then, for each group
    of heads, its parts that are done. The other arguments are told in ``entry.py``.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    heads_kv, seqlen_kv = k.shape[1], k.shape[2]
    group, blocks = heads_q // heads_kv, (seqlen_q + TILE * TILES - 1) // (TILE * TILES)
    size_k, size_v = seqlen_kv * padded(k.shape[3], number), seqlen_kv * padded(v.shape[3], number)
    own = aligned(size_k + size_v if parts == 1 else 0, number)
    task = next_task(counter, 0)
    while task < batch * heads_kv * parts:
        owner, part = task // parts, task % parts
        b, g = owner // heads_kv, owner % heads_kv
        sums = own if parts == 1 else shared[task]
        sums[:] = 0
        for piece in range(part, blocks * group, parts):  # in turn, so that parts of a causal mask weigh the same
            h, start = g * group + piece // blocks, piece % blocks * TILE * TILES
            tiles = min(TILES, (seqlen_q - start + TILE - 1) // TILE)
            add_gradients(
                dout[b, h], q[b, h], k[b, g], v[b, g], out[b, h], lse[b, h], dq[b, h], sums[:size_k], sums[size_k:],
                low[b], high[b], bias[h], scale, softcap, start, tiles, words, number,
            )  # fmt: skip
        if next_task(counter, 1 + owner) == parts - 1:  # the last of its parts adds them up, in their order
            if parts > 1:
                sums = shared[owner * parts]
                for other in range(1, parts):
                    sums += shared[owner * parts + other]
            finish(dk[b, g], sums[:size_k], scale[2])
            finish(dv[b, g], sums[size_k:], scale[1])
        task = next_task(counter, 0)


@compiled
def parts_of(owners: int, pieces: int, threads: int) -> int:
    """Into how many parts the queries of a group of heads are cut: one, where groups are enough for all threads."""
    if owners >= 4 * threads or owners % threads == 0:
        return 1
    return min((4 * threads + owners - 1) // owners, pieces)


def backward_for(sources: int) -> Callable[..., None]:
    """The backward pass; a function that closes over ``sources``, as ``entry.py`` says why."""

    def backward(
        dout: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, dq: Array, dk: Array, dv: Array, low: Array,
        high: Array, bias: Array, sinks: Array, scale: Array, softcap: float, words: Array, number: Array, threads: int,
    ) -> None:  # fmt: skip
        """Gradients of all heads: fills ``dq``, ``dk`` and ``dv``. The ``sinks`` are in the LSE already."""
        assert sources >= 0
        owners, group = q.shape[0] * k.shape[1], q.shape[1] // k.shape[1]
        parts = parts_of(owners, group * ((q.shape[2] + TILE * TILES - 1) // (TILE * TILES)), threads)
        size = k.shape[2] * (padded(k.shape[3], number) + padded(v.shape[3], number))
        shared = np.empty((owners * parts if parts > 1 else 0, size), number.dtype)
        counter = counters(1 + owners)
        for _ in prange(threads):
            work(
                dout, q, k, v, out, lse, dq, dk, dv, low, high, bias, scale, softcap, words, number, parts, shared,
                counter
            )  # fmt: skip

    return backward
