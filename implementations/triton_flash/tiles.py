"""The parts that the kernels of ``triton/flash`` share: arguments, tiles, masks, scores.

Imported by the call that needs it, never by a listing. The kernels stand on one property of most masks: a query sees
one run of neighbouring keys, and, because both ends of that run only ever move forwards, a key is seen by one run of
neighbouring queries. So a mask is two numbers for each row of a tile, and a whole range of tiles has no mask at all.
Trees and block-sparse masks are lists of blocks instead (``lists.py``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

ALL, CAUSAL, LISTED, BLOCKS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""How a kernel learns which keys a query sees: all of them, those up to its own place, from lists of bounds, or from
lists of blocks."""
PLAIN, SOFTCAP, ALIBI, RELATIVE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""The modification of a scaled score. (A sink is not one: it is a start value of the softmax.)"""
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


class Strides(NamedTuple):
    """Strides of a tensor (batch, heads, seqlen, dim), in elements."""

    batch: int
    head: int
    row: int
    dim: int


class Sizes(NamedTuple):
    """The sizes of the case."""

    heads_q: int
    group: int
    """Number of query heads that share a key head."""
    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    head_dim_v: int
    offset: int
    """Query ``i`` is at key position ``i + offset``."""


class Scoring(NamedTuple):
    """Parameters of the scores; unused ones are dummies of the same type."""

    scale: float
    softcap: float
    table: Any
    """float32: ALiBi's slopes, (heads_q,); or biases (heads_q, seqlen_q + seqlen_kv - 1), by key - query +
    seqlen_q - 1."""


@triton.jit
def load_tile(
    source, strides, batch, head, start, length, dim,
    ROWS: tl.constexpr, COLS: tl.constexpr, WHOLE: tl.constexpr, EVEN_DIM: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """Load ``ROWS`` tokens of one head, (ROWS, COLS); zeros beyond the last token or dim.

    ``source`` is a tensor descriptor with ``TMA``, else a pointer. ``WHOLE`` promises that all tokens exist.
    """
    if TMA:
        return source.load([batch, head, start, 0]).reshape(ROWS, COLS)
    else:  # noqa: RET505 - the compiler must not see the other branch
        rows, dims = tl.arange(0, ROWS), tl.arange(0, COLS)
        # Only the start is a 64-bit number: offsets within a tile are small, and 32 bits are cheaper.
        first = source + tl.cast(batch, tl.int64) * strides.batch + tl.cast(head, tl.int64) * strides.head
        first += tl.cast(start, tl.int64) * strides.row
        places = first + rows[:, None] * strides.row + dims[None, :] * strides.dim
        if WHOLE:
            if EVEN_DIM:
                return tl.load(places)
            return tl.load(places, mask=dims[None, :] < dim, other=0.0)
        is_there = (start + rows)[:, None] < length
        if EVEN_DIM:
            return tl.load(places, mask=is_there, other=0.0)
        return tl.load(places, mask=is_there & (dims[None, :] < dim), other=0.0)


@triton.jit
def store_tile(
    target, tile, plane, start, length, dim,
    ROWS: tl.constexpr, COLS: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """Write (ROWS, COLS) into plane ``plane`` of a contiguous tensor (planes, length, dim), in its dtype."""
    rows, dims = tl.arange(0, ROWS), tl.arange(0, COLS)
    first = target + (tl.cast(plane, tl.int64) * length + start) * dim
    is_there = ((start + rows)[:, None] < length) & (dims[None, :] < dim)
    if DROP > 0:  # outputs for inputs with fewer bits than float16 are bfloat16
        tile = rounded(tile, tile, 16)
    tl.store(first + rows[:, None] * dim + dims[None, :], tile.to(target.dtype.element_ty), mask=is_there)


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr, DROP: tl.constexpr):
    """Return ``total + a @ b`` in float32.

    ``DROP`` is for the interpreter, see :func:`rounded`: there, operands with fewer bits than float16 become float32,
    in which their products are exact. (It would multiply the raw bits of bfloat16 numbers.)
    """
    if DROP > 0:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision=PRECISION)
    else:  # noqa: RET505
        return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def rounded(x, like, DROP: tl.constexpr):
    """Round float32 numbers to the dtype of another tile.

    ``DROP`` is 0 on a GPU, which has instructions for it. The interpreter truncates bfloat16, and gets float8 wrong if
    a rounding carries into the exponent. So there ``DROP`` is the number of mantissa bits that the dtype lacks compared
    with float32: they are rounded to nearest even by arithmetic, and the result stays float32.
    """
    if DROP > 0:
        bits = x.to(tl.uint32, bitcast=True)
        bits += ((1 << (DROP - 1)) - 1) + ((bits >> DROP) & 1)
        nearest = ((bits >> DROP) << DROP).to(tl.float32, bitcast=True)
        if DROP == 20:  # float8_e4m3fn: numbers below 2^-6 are 2^-9 apart
            nearest = tl.where(tl.abs(x) < 0.015625, (x + 24576.0) - 24576.0, nearest)
        return nearest
    else:  # noqa: RET505
        return x.to(like.dtype)


@triton.jit
def keys_of(low_ptr, high_ptr, batch, rows, size, RULE: tl.constexpr):
    """Return the first key that each query sees, and the one past the last. Rows past the end copy the last query's.

    ``low_ptr`` and ``high_ptr``: (batch, seqlen_q), int32, read if the mask is ``LISTED``.
    """
    rows = tl.minimum(rows, size.seqlen_q - 1)
    if RULE == LISTED:
        at = tl.cast(batch, tl.int64) * size.seqlen_q + rows
        return tl.load(low_ptr + at), tl.load(high_ptr + at)
    elif RULE == CAUSAL:  # noqa: RET505
        return rows * 0, tl.maximum(tl.minimum(rows + size.offset + 1, size.seqlen_kv), 0)
    else:
        return rows * 0, rows * 0 + size.seqlen_kv


@triton.jit
def queries_of(first_ptr, beyond_ptr, batch, keys, size, RULE: tl.constexpr):
    """Return the first query that sees each key, and the one past the last; lists are (batch, seqlen_kv)."""
    keys = tl.minimum(keys, size.seqlen_kv - 1)
    if RULE == LISTED:
        at = tl.cast(batch, tl.int64) * size.seqlen_kv + keys
        return tl.load(first_ptr + at), tl.load(beyond_ptr + at)
    elif RULE == CAUSAL:  # noqa: RET505
        return tl.maximum(tl.minimum(keys - size.offset, size.seqlen_q), 0), keys * 0 + size.seqlen_q
    else:
        return keys * 0, keys * 0 + size.seqlen_q


@triton.jit
def block_range(low, high, length, BLOCK: tl.constexpr):
    """Return the blocks that a tile with runs ``[low, high)`` must visit along the other axis, in three stretches.

    Returns:
        ``(begin, full, edge, end)``: blocks in ``[begin, full)`` and ``[edge, end)`` are partly visible, those in
        ``[full, edge)`` are visible to every row, all others are hidden. All but ``end`` are multiples of ``BLOCK``.
    """
    sees = low < high
    begin = tl.min(tl.where(sees, low, length), 0) // BLOCK * BLOCK
    end = tl.max(tl.where(sees, high, 0), 0)
    full = tl.cdiv(tl.max(low, 0), BLOCK) * BLOCK
    edge = tl.min(tl.where(sees, high, 0), 0) // BLOCK * BLOCK
    has_full = full < edge
    return begin, tl.where(has_full, full, begin), tl.where(has_full, edge, begin), end


@triton.jit
def key_range(low_ptr, high_ptr, batch, start, size, RULE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The range that a tile of queries from ``start`` on visits: its rows' bounds, and :func:`block_range` of these.

    With ``BLOCKS``, ``low_ptr`` is where each tile's entries begin; they are the first stretch, and bounds are dummies.
    """
    rows = start + tl.arange(0, ROWS)
    if RULE == BLOCKS:
        tile = low_ptr + batch * tl.cdiv(size.seqlen_q, ROWS) + start // ROWS
        begin, end = tl.load(tile), tl.load(tile + 1)
        return rows, rows, begin, end, end, end
    else:  # noqa: RET505
        low, high = keys_of(low_ptr, high_ptr, batch, rows, size, RULE)
        begin, full, edge, end = block_range(low, high, size.seqlen_kv, BLOCK)
        return low, high, begin, full, edge, end


@triton.jit
def query_range(first_ptr, beyond_ptr, batch, start, size, RULE: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr):
    """The same for a tile of keys, which queries visit."""
    keys = start + tl.arange(0, KEYS)
    if RULE == BLOCKS:
        tile = first_ptr + batch * tl.cdiv(size.seqlen_kv, KEYS) + start // KEYS
        begin, end = tl.load(tile), tl.load(tile + 1)
        return keys, keys, begin, end, end, end
    else:  # noqa: RET505
        first, beyond = queries_of(first_ptr, beyond_ptr, batch, keys, size, RULE)
        begin, full, edge, end = block_range(first, beyond, size.seqlen_q, BLOCK)
        return first, beyond, begin, full, edge, end


@triton.jit
def block_at(entries_ptr, place, RULE: tl.constexpr):
    """The first row of the block that a loop has come to, and its pattern: with ``BLOCKS``, those of an entry."""
    if RULE == BLOCKS:
        return tl.load(entries_ptr + 2 * place), tl.load(entries_ptr + 2 * place + 1)
    else:  # noqa: RET505
        return place, 0


@triton.jit
def visible(
    low, high, others, pattern_ptr, pattern, RULE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
    ROW_STEP: tl.constexpr, COL_STEP: tl.constexpr,
):  # fmt: skip
    """Whether each of a tile's rows sees each of the others, (ROWS, COLS), by bounds or by a pattern.

    ``ROW_STEP`` and ``COL_STEP`` are the steps from element to element of a pattern, (block_m, block_n).
    """
    if RULE == BLOCKS:
        at = pattern * (ROWS * COLS) + tl.arange(0, ROWS)[:, None] * ROW_STEP + tl.arange(0, COLS)[None, :] * COL_STEP
        return tl.load(pattern_ptr + at) != 0
    else:  # noqa: RET505
        return (others[None, :] >= low[:, None]) & (others[None, :] < high[:, None])


@triton.jit
def tanh(x):
    """Compute tanh, by a series near 0, where the other form cancels."""
    square = x * x
    series = x * (1.0 - square * (0.3333333333 - square * (0.1333333333 - square * 0.05396825397)))
    return tl.where(square < 0.04, series, 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2_E)) + 1.0))


@triton.jit
def modified(raw, rows, keys, head, size, scoring, MOD: tl.constexpr):
    """Return scores from products of queries and keys: scaled, capped, biased.

    They are not multiplied by log2(e) for exp2: an LSE in those units would be rounded once more on its way to the
    caller and once more on its way back, and for a large LSE such a rounding is a large error in every weight. The
    difference of a score and the LSE is small, and can be multiplied safely.

    ``rows`` and ``keys`` are indices which broadcast to the shape of ``raw``.
    """
    if MOD == SOFTCAP:
        return tanh(raw * (scoring.scale / scoring.softcap)) * scoring.softcap
    elif MOD == ALIBI:  # noqa: RET505
        slope = tl.load(scoring.table + head)
        distance = tl.abs(keys - rows - size.offset).to(tl.float32)
        return raw * scoring.scale - slope * distance
    elif MOD == RELATIVE:
        is_there = (rows < size.seqlen_q) & (keys < size.seqlen_kv)
        biases = scoring.table + tl.cast(head, tl.int64) * (size.seqlen_q + size.seqlen_kv - 1)
        bias = tl.load(biases + keys - rows + size.seqlen_q - 1, mask=is_there, other=0.0)
        return raw * scoring.scale + bias
    else:
        return raw * scoring.scale
