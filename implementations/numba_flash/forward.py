"""The forward pass, as in Dao, "FlashAttention-2" (2023), algorithm 1, with everything transposed.

A task is a block of queries of a few heads that share keys. Keys and values are streamed past it, ``BLOCK_KV`` at a
time, and for each tile of queries

    S^T = K Q^T          a register holds one key's scores with 16 queries
    P^T = exp(S^T - max) and O^T is corrected whenever a larger score turns up
    O^T = O^T + V^T P^T

Both products read K and V one number at a time in memory order, so neither is transposed; only Q and O are, once per
task. The data of a tile stays in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .arguments import (
    CUT,
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
from .language.compiling import Number, Pointer, compiled
from .language.scheduling import next_task
from .language.simd import lanes_of, load, store, transpose
from .product import multiply, multiply_add
from .softmax import LOG2_E, TILE, add_bias, cap, hide, weigh
from .tiles import (
    after,
    allocate,
    fill,
    flat,
    in_place,
    line_from,
    pack,
    pack_for_sum,
    padded,
    per_word,
    release,
    unpack,
    wide,
)

BLOCK_KV = 128
TILES = 8  # tiles of one task, which share packed K and V


@compiled
def bounds_of_tile(low: Pointer, high: Pointer, at: int, count: int) -> tuple[int, int, int, int]:
    """Return the bounds of the keys that any of a tile's rows sees, and of the keys that all of them see."""
    first, beyond, from_all, to_all = wide(high[at]), 0, 0, wide(high[at])
    for i in range(at, at + count):
        if low[i] < high[i]:
            first, beyond = min(first, wide(low[i])), max(beyond, wide(high[i]))
        from_all, to_all = max(from_all, wide(low[i])), min(to_all, wide(high[i]))
    return min(first, beyond), beyond, from_all, to_all


@compiled
def bound_tile(
    lows: Pointer, highs: Pointer, bounds: Pointer, rules: Rules, seqlen_q: int, i: int, row: int, count: int
) -> None:
    """Load the runs of keys that rows of tile ``i`` see, from ``row`` on; lanes without a row copy the last row's."""
    for run in range(rules.runs):
        t = i * rules.runs + run
        low, high = moved(rules.low, run * seqlen_q), moved(rules.high, run * seqlen_q)
        for lane in range(TILE):
            source = row + min(lane, count - 1)
            lows[t * TILE + lane], highs[t * TILE + lane] = low[source], high[source]
        bounds[4 * t], bounds[4 * t + 1], bounds[4 * t + 2], bounds[4 * t + 3] = bounds_of_tile(low, high, row, count)


@compiled
def any_sees(bounds: Pointer, count: int, begin: int, end: int) -> bool:
    """Whether any of the first ``count`` runs of tiles has a key in ``begin`` to ``end``."""
    seen = False
    for t in range(count):
        seen = seen or max(bounds[4 * t], begin) < min(bounds[4 * t + 1], end)
    return seen


class Scratch(NamedTuple):
    """The scratch memory of a thread: room for a task of the size given by :func:`shape_of_tasks`.

    Attributes:
        qt: Q^T of each tile, (heads * tiles, head_dim, TILE), in words.
        ot: O^T of each tile, (heads * tiles, head_dim_v, TILE).
        highest: see :func:`softmax.weigh`, as for the next two, (heads * tiles, TILE).
        total: likewise.
        rescale: (TILE,).
        lows: first key of each run that a row sees, (tiles, runs, TILE).
        highs: one past the last, likewise.
        bounds: the results of :func:`bounds_of_tile` for each tile's runs, (tiles, runs, 4).
        k: a block of K, if it is not read in place.
        v: a block of V, likewise.
        s: a tile of scores, (BLOCK_KV, TILE).
        p: its weights, in words.
        loaded: a tile's queries before they are transposed, (TILE, head_dim), in words.
        natural: its output after that, (TILE, head_dim_v).
        spare: for :func:`tiles.unpack`.
    """

    qt: Pointer
    ot: Pointer
    highest: Pointer
    total: Pointer
    rescale: Pointer
    lows: Pointer
    highs: Pointer
    bounds: Pointer
    k: Pointer
    v: Pointer
    s: Pointer
    p: Pointer
    loaded: Pointer
    natural: Pointer
    spare: Pointer


@compiled
def scratch_at(
    start: int, heads: int, tiles: int, runs: int, head_dim: int, head_dim_v: int, out: Number, index: Number,
    words: Number, number: Number,
) -> tuple[Scratch, int]:  # fmt: skip
    """Return scratch memory for tasks of ``heads`` heads with ``tiles`` tiles each, and the address past its end."""
    pair = per_word(words)
    row_k, row_v = padded((head_dim + pair - 1) // pair, words), padded(head_dim_v, words)
    row_o = padded(head_dim_v, number)
    ot = after(start, heads * tiles * row_k * TILE, words)
    highest = after(ot, heads * tiles * row_o * TILE, number)
    total = after(highest, heads * tiles * TILE, number)
    rescale = after(total, heads * tiles * TILE, number)
    lows = after(rescale, TILE, number)
    highs = after(lows, tiles * runs * TILE, index)
    bounds = after(highs, tiles * runs * TILE, index)
    k = after(bounds, tiles * runs * 4, np.int64)
    v = after(k, BLOCK_KV * row_k, words)
    s = after(v, BLOCK_KV // pair * row_v, words)
    p = after(s, BLOCK_KV * TILE, number)
    loaded = after(p, BLOCK_KV // pair * TILE, words)
    natural = after(loaded, TILE * row_k, words)
    spare = after(natural, TILE * row_o, number)
    scratch = Scratch(
        pointer(start, words), pointer(ot, number), pointer(highest, number), pointer(total, number),
        pointer(rescale, number), pointer(lows, index), pointer(highs, index), pointer(bounds, np.int64),
        pointer(k, words), pointer(v, words), pointer(s, number), pointer(p, words), pointer(loaded, words),
        pointer(natural, number), pointer(spare, out),
    )  # fmt: skip
    return scratch, after(spare, lanes_of(number), out)


@compiled
def begin_task(
    q: Tensor, rules: Rules, sizes: Sizes, b: int, head: int, heads: int, start: int, tiles: int, row_k: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Load a task's queries and mask bounds, and initialise the state of the softmax."""
    pair = per_word(scratch.qt)
    inner = (sizes.head_dim + pair - 1) // pair
    for i in range(tiles):
        row = start + i * TILE
        count = min(TILE, sizes.seqlen_q - row)
        bound_tile(scratch.lows, scratch.highs, scratch.bounds, rules, sizes.seqlen_q, i, row, count)
        for h in range(heads):
            t, sink = h * tiles + i, rules.sinks[head + h]
            pack(scratch.loaded, 0, row_k, matrix_of(q, b, head + h, sizes.head_dim), row, count)
            fill(scratch.loaded, count * row_k, (padded(count, scratch.ot) - count) * row_k, 0)
            transpose(scratch.qt, t * row_k * TILE, TILE, scratch.loaded, 0, row_k, count, inner)
            fill(scratch.highest, t * TILE, TILE, sink * LOG2_E)
            # A sink is treated as a key before all others, without a value.
            fill(scratch.total, t * TILE, TILE, 1 if sink > -np.inf else 0)


@compiled
def end_task(
    out: Tensor, lse: Tensor, sizes: Sizes, b: int, head: int, heads: int, start: int, tiles: int, runs: int,
    row_o: int, scratch: Scratch,
) -> None:  # fmt: skip
    """Normalise the sums of weighted values, and write the output and the LSE."""
    ot, inverse, lanes = scratch.ot, scratch.rescale, lanes_of(scratch.ot)
    for h in range(heads):
        rows = matrix_of(lse, b, head + h, 1)
        for i in range(tiles):
            t, row = h * tiles + i, start + i * TILE
            count = min(TILE, sizes.seqlen_q - row)
            own = 4 * i * runs
            if scratch.bounds[own] >= scratch.bounds[own + 1]:  # no key is visible, and nothing was stored
                fill(ot, t * row_o * TILE, row_o * TILE, 0)
            for lane in range(count):
                weight = scratch.total[t * TILE + lane]
                rows.data[(row + lane) * rows.row] = scratch.highest[t * TILE + lane] / LOG2_E + np.log(weight)
                inverse[lane] = 1 / weight if weight != 0 else 0  # NaN stays NaN
            for d in range(sizes.head_dim_v):
                for lane in range(0, count, lanes):
                    at = (t * row_o + d) * TILE + lane
                    store(ot, at, load(ot, at) * load(inverse, lane))
            transpose(scratch.natural, 0, row_o, ot, t * row_o * TILE, TILE, sizes.head_dim_v, count)
            head_out = matrix_of(out, b, head + h, sizes.head_dim_v)
            unpack(head_out, row, scratch.natural, 0, row_o, count, scratch.spare)


@compiled
def attend(
    q: Tensor, k: Matrix, v: Matrix, out: Tensor, lse: Tensor, sizes: Sizes, rules: Rules, b: int, head: int,
    heads: int, start: int, tiles: int, scratch: Scratch,
) -> None:  # fmt: skip
    """Compute one task: rows from ``start`` on of ``heads`` heads from ``head`` on, which share ``k`` and ``v``.

    Args:
        q: (batch, heads_q, seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        out: to fill, (batch, heads_q, seqlen_q, head_dim_v).
        lse: to fill, (batch, heads_q, seqlen_q).
        sizes: sizes of the case.
        rules: rules of this element of the batch.
        b: element of the batch.
        head: first head.
        heads: number of heads.
        start: first row.
        tiles: number of tiles of rows, per head.
        scratch: the thread's scratch memory.
    """
    seqlen_q, head_dim_v = sizes.seqlen_q, sizes.head_dim_v
    qt, ot, s, p, bounds, scale = scratch.qt, scratch.ot, scratch.s, scratch.p, scratch.bounds, rules.scale
    lanes, pair = lanes_of(s), per_word(qt)
    inner = (sizes.head_dim + pair - 1) // pair
    row_k, row_v, row_o = padded(inner, qt), padded(head_dim_v, qt), padded(head_dim_v, ot)
    # K and V are read in place if their rows are contiguous as the kernels need them.
    k_in_place = in_place(k, qt) and k.row == k.width
    v_in_place = pair == 1 and in_place(v, qt) and v.row == v.width
    k_tile, v_tile = flat(k, qt) if k_in_place else scratch.k, flat(v, qt) if v_in_place else scratch.v
    k_at, v_at = 0, 0
    softcap, biased = scale[3], rules.bias_row > 0
    unit = scale[1] if softcap > 0 or biased else scale[0]  # the factor that the softmax applies to scores

    # phase: copies
    begin_task(q, rules, sizes, b, head, heads, start, tiles, row_k, scratch)
    first, beyond, runs = sizes.seqlen_kv, 0, rules.runs
    for run in range(tiles * runs):
        if bounds[4 * run] < bounds[4 * run + 1]:
            first, beyond = min(first, bounds[4 * run]), max(beyond, bounds[4 * run + 1])
    for block in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        # phase: copies
        begin, end = max(first, block), min(beyond, block + BLOCK_KV)
        begin -= (begin - block) % 2
        if not any_sees(bounds, tiles * runs, begin, end):
            continue
        if k_in_place:
            k_at = begin * row_k
        else:
            pack(k_tile, 0, row_k, k, begin, end - begin)
        if v_in_place:
            v_at = begin * row_v
        else:
            pack_for_sum(v_tile, 0, row_v, v, begin, end - begin)
        for run in range(tiles * runs):
            i = run // runs
            from_key, to_key = max(begin, bounds[4 * run]), min(end, bounds[4 * run + 1])
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
                if biased:
                    before = scale[1] if softcap > 0 else scale[0]
                    bias = moved(rules.bias, (head + h) * rules.bias_row)
                    add_bias(s, keys, vectors, before, from_key, row, bias, sizes.seqlen_kv)
                if from_key < bounds[4 * run + 2] or to_key > bounds[4 * run + 3]:
                    hide(s, keys, vectors, from_key, scratch.lows, scratch.highs, run * TILE)
                # phase: softmax
                weigh(s, p, keys, vectors, unit, scratch.highest, scratch.total, scratch.rescale, t * TILE)
                # phase: pv
                at = t * row_o * TILE
                if run == i * runs and from_key <= bounds[4 * run]:  # the tile's first block
                    multiply(ot, at, TILE, v_tile, v_from, 1, row_v, p, 0, TILE, head_dim_v, vectors, words)
                else:
                    multiply_add(
                        ot, at, TILE, v_tile, v_from, 1, row_v, p, 0, TILE, head_dim_v, vectors, words, scratch.rescale,
                        0
                    )  # fmt: skip
    # phase: copies
    end_task(out, lse, sizes, b, head, heads, start, tiles, runs, row_o, scratch)


def shape_of_tasks(batch: int, heads_q: int, heads_kv: int, seqlen_q: int, threads: int) -> tuple[int, int]:
    """Return a task's number of heads and of tiles per head: ``TILES`` tiles in all, or fewer to occupy all threads."""
    group = heads_q // heads_kv
    heads = min(group, TILES)
    while group % heads:
        heads -= 1
    tiles = TILES // heads
    while tiles > 1 and batch * heads_q // heads * ((seqlen_q + TILE * tiles - 1) // (TILE * tiles)) < 4 * threads:
        tiles //= 2
    return heads, tiles


def forward_cut(sizes: Sizes, dtypes: Dtypes, threads: int, splits: int) -> Cut:
    """Divide the work into tasks as given by :func:`shape_of_tasks`."""
    del dtypes, splits
    heads, tiles = shape_of_tasks(sizes.batch, sizes.heads_q, sizes.heads_kv, sizes.seqlen_q, threads)
    return Cut((heads, tiles), sizes.batch * sizes.heads_q // heads * -(-sizes.seqlen_q // (TILE * tiles)), counters=1)


def forward_for(sources: int, dtypes: Dtypes) -> Callable[..., None]:
    """Return the forward pass, a function that closes over ``sources`` (see ``entry.py``) and over types."""
    kind, index, words, number = dtypes

    def forward(block: Pointer) -> None:
        """Do the work of one thread: tasks of some heads and some tiles of each, until none are left.

        The block's tensors are Q, K, V, the output and the LSE, its two numbers are those of :func:`shape_of_tasks`,
        and it has one counter.
        """
        assert sources >= 0
        sizes, rules, heads, tiles = sizes_in(block), rules_in(block, index, number), block[CUT], block[CUT + 1]
        q, k, v = tensor_in(block, 0, kind), tensor_in(block, 1, kind), tensor_in(block, 2, kind)
        out, lse = tensor_in(block, 3, kind), tensor_in(block, 4, number)
        group, rows = sizes.heads_q // sizes.heads_kv, TILE * tiles
        blocks, together = (sizes.seqlen_q + rows - 1) // rows, sizes.batch * sizes.heads_q // heads
        room = min(tiles, (sizes.seqlen_q + TILE - 1) // TILE)
        dim, dim_v, runs = sizes.head_dim, sizes.head_dim_v, rules.runs
        _, size = scratch_at(0, heads, room, runs, dim, dim_v, kind, index, words, number)
        memory = allocate(size + TILE)
        scratch, _ = scratch_at(line_from(memory), heads, room, runs, dim, dim_v, kind, index, words, number)
        counter = TENSORS + 5 * WORDS
        task = next_task(block, counter)
        while task < blocks * together:
            start = (blocks - 1 - task // together) * rows  # longest first: last rows of a causal mask see most
            b, head = task % together * heads // sizes.heads_q, task % together * heads % sizes.heads_q
            count = min(tiles, (sizes.seqlen_q - start + TILE - 1) // TILE)
            own, g = rules_of(rules, b, sizes.seqlen_q), head // group
            attend(
                q, keys_of(k, own, b, g, sizes.head_dim), keys_of(v, own, b, g, sizes.head_dim_v),
                out, lse, sizes, own, b, head, heads, start, count, scratch,
            )  # fmt: skip
            task = next_task(block, counter)
        release(memory)

    return forward
