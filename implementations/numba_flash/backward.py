"""The backward pass, as in Dao, "FlashAttention-2" (2023), algorithm 2, with blocks of queries outside.

For each tile of queries and block of keys, transposed as in the forward pass::

    S^T = K Q^T           P^T  = exp(S^T - LSE)
    dP^T = V dO^T         dS^T = P^T * (dP^T - delta)     delta = rowsum(dO * O)
    dV += P^T dO          dK += dS^T Q                    dQ^T += K^T dS^T

There are five products, each computed once. A task owns its queries, and so its rows of dQ. dK and dV are summed over
all queries of the heads that share them: by one task if there are enough heads for all threads, else by several tasks
with separate sums, which are then added in a fixed order. No two threads add to the same memory, so the result is
deterministic.
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
    matrix_of,
    moved,
    pointer,
    rules_in,
    rules_of,
    sizes_in,
    tensor_in,
)
from .forward import any_sees, bound_tile
from .gradients import differentiate, row_products
from .language.compiling import Number, Pointer, compiled
from .language.scheduling import next_task
from .language.simd import lanes_of, load, spread, store, transpose
from .language.target import TARGET
from .product import multiply, multiply_add
from .softmax import TILE, add_bias, cap, hide
from .tiles import (
    after,
    allocate,
    bytes_of,
    fill,
    line_from,
    pack,
    pack_for_sum,
    padded,
    per_word,
    release,
    unpack,
)

BLOCK_KV = 128
TILES = 4  # tiles of queries in a task's block, which share packed K and V


class Scratch(NamedTuple):
    """The scratch memory of a thread: room for ``TILES`` tiles of queries and a block of keys.

    Attributes:
        qt: Q^T of each tile, (tiles, head_dim, TILE), in words; so are the next three.
        dot: dO^T, (tiles, head_dim_v, TILE).
        q_sum: Q, (tiles, TILE, head_dim), to be summed over rows.
        dout_sum: dO, likewise.
        dq_t: dQ^T, (tiles, head_dim, TILE).
        normalizer: LSE, (tiles, TILE); +inf for rows that see no key.
        delta: see :func:`row_products`, likewise.
        lows: see :func:`forward.bound_tile`, as for the next two.
        highs: likewise.
        bounds: likewise.
        loaded: rows of Q or dO before they are transposed, in words.
        natural: rows of dO, and of dQ before it is written.
        other: rows of the output.
        k: a block of K, in words; so are the next two.
        v: of V.
        k_sum: of K, to be summed over rows.
        s: scores, (BLOCK_KV, TILE).
        dp: gradients of the weights, likewise.
        p_rows: see :func:`differentiate`, as for the next two.
        ds_rows: likewise.
        ds_pairs: likewise.
        ones: factors for :func:`multiply_add`.
        spare: for :func:`tiles.unpack`.
    """

    qt: Pointer
    dot: Pointer
    q_sum: Pointer
    dout_sum: Pointer
    dq_t: Pointer
    normalizer: Pointer
    delta: Pointer
    lows: Pointer
    highs: Pointer
    bounds: Pointer
    loaded: Pointer
    natural: Pointer
    other: Pointer
    k: Pointer
    v: Pointer
    k_sum: Pointer
    s: Pointer
    dp: Pointer
    p_rows: Pointer
    ds_rows: Pointer
    ds_pairs: Pointer
    ones: Pointer
    spare: Pointer


@compiled
def scratch_at(
    start: int, tiles: int, runs: int, row_k: int, row_v: int, row_d: int, row_o: int, dq: Number, index: Number,
    words: Number, number: Number,
) -> Any:  # fmt: skip
    """Return a thread's scratch memory that starts at an address, and the address past its end."""
    weights, rows = BLOCK_KV * TILE // per_word(words), tiles * TILE
    dot = after(start, rows * row_k, words)
    q_sum = after(dot, rows * row_v, words)
    dout_sum = after(q_sum, rows * row_d, words)
    dq_t = after(dout_sum, rows * row_o, words)
    normalizer = after(dq_t, rows * row_d, number)
    delta = after(normalizer, rows, number)
    lows = after(delta, rows, number)
    highs = after(lows, rows * runs, index)
    bounds = after(highs, rows * runs, index)
    loaded = after(bounds, tiles * runs * 4, np.int64)
    natural = after(loaded, TILE * max(row_k, row_v), words)
    other = after(natural, TILE * max(row_d, row_o), number)
    k = after(other, TILE * row_o, number)
    v = after(k, BLOCK_KV * row_k, words)
    k_sum = after(v, BLOCK_KV * row_v, words)
    s = after(k_sum, BLOCK_KV * row_d, words)
    dp = after(s, BLOCK_KV * TILE, number)
    p_rows = after(dp, BLOCK_KV * TILE, number)
    ds_rows = after(p_rows, weights, words)
    apart = after(ds_rows, weights, words)
    ds_pairs = apart if per_word(words) > 1 else ds_rows
    ones = after(ds_pairs, weights, words)
    spare = after(ones, max(TILE, row_d, row_o), number)
    scratch = Scratch(
        pointer(start, words), pointer(dot, words), pointer(q_sum, words), pointer(dout_sum, words),
        pointer(dq_t, number), pointer(normalizer, number), pointer(delta, number), pointer(lows, index),
        pointer(highs, index), pointer(bounds, np.int64), pointer(loaded, words), pointer(natural, number),
        pointer(other, number), pointer(k, words), pointer(v, words), pointer(k_sum, words), pointer(s, number),
        pointer(dp, number), pointer(p_rows, words), pointer(ds_rows, words), pointer(ds_pairs, words),
        pointer(ones, number), pointer(spare, dq),
    )  # fmt: skip
    return scratch, after(spare, lanes_of(number), dq)


@compiled
def load_tile(
    dout: Matrix, q: Matrix, out: Matrix, lse: Matrix, rules: Rules, seqlen_q: int, i: int, row: int, count: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Load all that the gradients need of tile ``i`` of a block of queries: ``count`` rows from ``row`` on."""
    words, number = scratch.qt, scratch.dq_t
    pair, loaded = per_word(words), scratch.loaded
    inner, inner_v = (q.width + pair - 1) // pair, (out.width + pair - 1) // pair
    row_k, row_v = padded(inner, words), padded(inner_v, words)
    row_d, row_o = padded(q.width, number), padded(out.width, number)
    bound_tile(scratch.lows, scratch.highs, scratch.bounds, rules, seqlen_q, i, row, count)
    for lane in range(TILE):  # the weights of lanes without a row are 0
        total = lse.data[(row + min(lane, count - 1)) * lse.row]
        sees = (lane < count and total > -np.inf) or np.isnan(total)
        scratch.normalizer[i * TILE + lane] = total if sees else np.float32(np.inf)
    pack(loaded, 0, row_k, q, row, count)
    fill(loaded, count * row_k, (TILE - count) * row_k, 0)
    transpose(scratch.qt, i * row_k * TILE, TILE, loaded, 0, row_k, TILE, inner)
    pack(loaded, 0, row_v, dout, row, count)
    fill(loaded, count * row_v, (TILE - count) * row_v, 0)
    transpose(scratch.dot, i * row_v * TILE, TILE, loaded, 0, row_v, TILE, inner_v)
    fill(scratch.q_sum, i * TILE * row_d, TILE * row_d, 0)
    pack_for_sum(scratch.q_sum, i * TILE * row_d, row_d, q, row, count)
    fill(scratch.dout_sum, i * TILE * row_o, TILE * row_o, 0)
    pack_for_sum(scratch.dout_sum, i * TILE * row_o, row_o, dout, row, count)
    pack(scratch.natural, 0, row_o, dout, row, count)
    pack(scratch.other, 0, row_o, out, row, count)
    fill(scratch.delta, i * TILE, TILE, 0)
    row_products(scratch.delta, i * TILE, scratch.natural, scratch.other, row_o, count)


@compiled
def add_gradients(
    dout: Matrix, q: Matrix, k: Matrix, v: Matrix, out: Matrix, lse: Matrix, dq: Matrix, dk_sum: Pointer,
    dv_sum: Pointer, sizes: Sizes, rules: Rules, bias: Pointer, start: int, tiles: int, scratch: Scratch,
) -> None:  # fmt: skip
    """Compute the rows of ``dq`` of a block of queries of one head, and add its share to ``dk_sum`` and ``dv_sum``.

    Args:
        dout: (seqlen_q, head_dim_v).
        q: (seqlen_q, head_dim).
        k: (seqlen_kv, head_dim).
        v: (seqlen_kv, head_dim_v).
        out: (seqlen_q, head_dim_v).
        lse: (seqlen_q, 1).
        dq: (seqlen_q, head_dim), of which the block's rows are filled.
        dk_sum: (seqlen_kv, head_dim), padded and flat, not yet multiplied by the scale.
        dv_sum: (seqlen_kv, head_dim_v), padded and flat.
        sizes: sizes of the case.
        rules: rules of this element of the batch.
        bias: bias of this head.
        start: first row.
        tiles: number of tiles of rows.
        scratch: the thread's scratch memory.
    """
    words, number, scale = scratch.qt, scratch.s, rules.scale
    seqlen_q, seqlen_kv, head_dim, head_dim_v = sizes.seqlen_q, sizes.seqlen_kv, sizes.head_dim, sizes.head_dim_v
    pair, lanes = per_word(words), lanes_of(number)
    inner, inner_v = (head_dim + pair - 1) // pair, (head_dim_v + pair - 1) // pair
    row_k, row_v = padded(inner, words), padded(inner_v, words)  # in words
    row_d, row_o = padded(head_dim, number), padded(head_dim_v, number)  # in numbers
    s, dp, p_rows, ds_rows, ds_pairs = scratch.s, scratch.dp, scratch.p_rows, scratch.ds_rows, scratch.ds_pairs
    bounds, dq_t, ones = scratch.bounds, scratch.dq_t, scratch.ones
    softcap, biased = scale[3], rules.bias_row > 0
    unit = scale[1] if softcap > 0 or biased else scale[0]  # the factor that is still to be applied to scores

    # phase: copies
    fill(dq_t, 0, tiles * row_d * TILE, 0)
    first, beyond, runs = seqlen_kv, 0, rules.runs
    for i in range(tiles):
        row = start + i * TILE
        load_tile(dout, q, out, lse, rules, seqlen_q, i, row, min(TILE, seqlen_q - row), scratch)
    for run in range(tiles * runs):
        if bounds[4 * run] < bounds[4 * run + 1]:
            first, beyond = min(first, bounds[4 * run]), max(beyond, bounds[4 * run + 1])

    for block in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        # phase: copies
        begin, end = max(first, block), min(beyond, block + BLOCK_KV)
        begin -= (begin - block) % 2
        if not any_sees(bounds, tiles * runs, begin, end):
            continue
        pack(scratch.k, 0, row_k, k, begin, end - begin)
        pack(scratch.v, 0, row_v, v, begin, end - begin)
        pack_for_sum(scratch.k_sum, 0, row_d, k, begin, end - begin)
        for run in range(tiles * runs):
            i = run // runs
            from_key, to_key = max(begin, bounds[4 * run]), min(end, bounds[4 * run + 1])
            from_key -= (from_key - begin) % 2
            keys = to_key - from_key
            if keys <= 0:
                continue
            row = start + i * TILE
            count = min(TILE, seqlen_q - row)
            vectors = (count + lanes - 1) // lanes
            offset = from_key - begin
            # phase: qk
            multiply(
                s, 0, TILE, scratch.k, offset * row_k, row_k, 1, scratch.qt, i * row_k * TILE, TILE, keys, vectors,
                inner,
            )  # fmt: skip
            # phase: mask
            if softcap > 0:
                cap(s, keys, vectors, scale[0], softcap)
            if biased:
                before = scale[1] if softcap > 0 else scale[0]
                add_bias(s, keys, vectors, before, from_key, row, bias, seqlen_kv)
            if from_key < bounds[4 * run + 2] or to_key > bounds[4 * run + 3]:
                hide(s, keys, vectors, from_key, scratch.lows, scratch.highs, run * TILE)
            # phase: gradients
            multiply(
                dp, 0, TILE, scratch.v, offset * row_v, row_v, 1, scratch.dot, i * row_v * TILE, TILE, keys, vectors,
                inner_v,
            )  # fmt: skip
            # phase: softmax
            differentiate(
                s, dp, p_rows, ds_rows, ds_pairs, keys, vectors, unit, scratch.normalizer, scratch.delta, i * TILE,
                softcap,
            )  # fmt: skip
            # phase: gradients
            queries = (count + pair - 1) // pair
            multiply_add(
                dv_sum, from_key * row_o, row_o, p_rows, 0, TILE // pair, 1, scratch.dout_sum, i * TILE * row_o, row_o,
                keys, row_o // lanes, queries, ones, 0,
            )  # fmt: skip
            multiply_add(
                dk_sum, from_key * row_d, row_d, ds_rows, 0, TILE // pair, 1, scratch.q_sum, i * TILE * row_d, row_d,
                keys, row_d // lanes, queries, ones, 0,
            )  # fmt: skip
            multiply_add(
                dq_t, i * row_d * TILE, TILE, scratch.k_sum, offset // pair * row_d, 1, row_d, ds_pairs, 0, TILE,
                head_dim, vectors, (keys + pair - 1) // pair, ones, 0,
            )  # fmt: skip

    # phase: copies
    factor = spread(number, scale[2])
    for i in range(tiles):
        row = start + i * TILE
        for at in range(i * row_d * TILE, (i * row_d + head_dim) * TILE, lanes):
            store(dq_t, at, load(dq_t, at) * factor)
        transpose(scratch.natural, 0, row_d, dq_t, i * row_d * TILE, TILE, head_dim, TILE)
        unpack(dq, row, scratch.natural, 0, row_d, min(TILE, seqlen_q - row), scratch.spare)


@compiled
def add_to(total: Pointer, part: Pointer, count: int) -> None:
    """Add ``count`` numbers, in whole registers: ``total += part``."""
    for at in range(0, count, lanes_of(total)):
        store(total, at, load(total, at) + load(part, at))


@compiled
def finish(gradient: Matrix, rows: int, total: Pointer, scale: float, spare: Pointer) -> None:
    """Write sums to a gradient, multiplied by ``scale`` and rounded."""
    row_size, lanes = padded(gradient.width, total), lanes_of(total)
    factor = spread(total, scale)
    for at in range(0, rows * row_size, lanes):
        store(total, at, load(total, at) * factor)
    unpack(gradient, 0, total, 0, row_size, rows, spare)


def parts_of(owners: int, pieces: int, threads: int) -> int:
    """Return the number of parts into which a group's queries are divided: 1 if groups are enough for all threads."""
    if owners >= 4 * threads or owners % threads == 0:
        return 1
    return min((4 * threads + owners - 1) // owners, pieces)


def backward_cut(sizes: Sizes, dtypes: Dtypes, threads: int, splits: int) -> Cut:
    """Divide the queries of each group of heads into parts; shared memory holds the sums of dK and dV of each part."""
    del splits
    owners, group = sizes.batch * sizes.heads_kv, sizes.heads_q // sizes.heads_kv
    parts = parts_of(owners, group * -(-sizes.seqlen_q // (TILE * TILES)), threads)
    lanes = TARGET.lanes(8 * np.dtype(dtypes.number).itemsize)
    size = sizes.seqlen_kv * sum(-(-width // lanes) * lanes for width in (sizes.head_dim, sizes.head_dim_v))
    return Cut((parts, 0), owners * parts, 1 + owners, owners * parts * size if parts > 1 else 0)


def backward_for(sources: int, dtypes: Dtypes) -> Callable[..., None]:
    """Return the backward pass, a function that closes over ``sources`` (see ``entry.py``) and over types."""
    kind, index, words, number = dtypes

    def backward(block: Pointer) -> None:
        """Do the work of one thread: groups of heads that share keys, or parts of their queries, until none are left.

        The block's tensors are dO, Q, K, V, the output, dQ, dK, dV and the LSE. Its first number is the number of parts
        into which the queries of a group of heads are divided; if there are several, shared memory holds the sums of dK
        and dV of each. Its counters count tasks and then, for each group of heads, finished parts. The LSE already
        includes the ``sinks``.
        """
        assert sources >= 0
        sizes, rules, parts = sizes_in(block), rules_in(block, index, number), block[CUT]
        dout, q, k = tensor_in(block, 0, kind), tensor_in(block, 1, kind), tensor_in(block, 2, kind)
        v, out, dq = tensor_in(block, 3, kind), tensor_in(block, 4, kind), tensor_in(block, 5, kind)
        dk, dv = tensor_in(block, 6, kind), tensor_in(block, 7, kind)
        lse, counter = tensor_in(block, 8, number), TENSORS + 9 * WORDS
        head_dim, head_dim_v, seqlen_q, seqlen_kv = sizes.head_dim, sizes.head_dim_v, sizes.seqlen_q, sizes.seqlen_kv
        pair, group = per_word(words), sizes.heads_q // sizes.heads_kv
        row_k, row_v = padded((head_dim + pair - 1) // pair, words), padded((head_dim_v + pair - 1) // pair, words)
        row_d, row_o = padded(head_dim, number), padded(head_dim_v, number)
        blocks, size_k = (seqlen_q + TILE * TILES - 1) // (TILE * TILES), seqlen_kv * row_d
        size_sums = size_k + seqlen_kv * row_o
        room = min(TILES, (seqlen_q + TILE - 1) // TILE)
        _, size = scratch_at(0, room, rules.runs, row_k, row_v, row_d, row_o, kind, index, words, number)
        memory = allocate(TILE + size + (size_sums * bytes_of(number) if parts == 1 else 0))
        scratch, behind = scratch_at(
            line_from(memory), room, rules.runs, row_k, row_v, row_d, row_o, kind, index, words, number
        )
        fill(scratch.ones, 0, max(TILE, row_d, row_o), 1)
        shared = pointer(block[SHARED], number)
        task = next_task(block, counter)
        while task < sizes.batch * sizes.heads_kv * parts:
            owner, part = task // parts, task % parts
            b, g = owner // sizes.heads_kv, owner % sizes.heads_kv
            sums = pointer(behind, number) if parts == 1 else moved(shared, task * size_sums)
            fill(sums, 0, size_sums, 0)
            for piece in range(part, blocks * group, parts):  # interleaved, for equal work under a causal mask
                h, start = g * group + piece // blocks, piece % blocks * TILE * TILES
                tiles = min(TILES, (seqlen_q - start + TILE - 1) // TILE)
                add_gradients(
                    matrix_of(dout, b, h, head_dim_v), matrix_of(q, b, h, head_dim), matrix_of(k, b, g, head_dim),
                    matrix_of(v, b, g, head_dim_v), matrix_of(out, b, h, head_dim_v), matrix_of(lse, b, h, 1),
                    matrix_of(dq, b, h, head_dim), sums, moved(sums, size_k), sizes, rules_of(rules, b, seqlen_q),
                    moved(rules.bias, h * rules.bias_row), start, tiles, scratch,
                )  # fmt: skip
            if next_task(block, counter + 1 + owner) == parts - 1:  # the last part adds them up, in order
                if parts > 1:
                    sums = moved(shared, owner * parts * size_sums)
                    for other in range(size_sums, parts * size_sums, size_sums):
                        add_to(sums, moved(sums, other), size_sums)
                finish(matrix_of(dk, b, g, head_dim), seqlen_kv, sums, rules.scale[2], scratch.spare)
                finish(matrix_of(dv, b, g, head_dim_v), seqlen_kv, moved(sums, size_k), rules.scale[1], scratch.spare)
            task = next_task(block, counter)
        release(memory)

    return backward
