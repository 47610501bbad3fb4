"""Products of a few rows with many rows that are read from memory once, in memory order.

The time is that of reading, so reading must never pause. A processor prefetches along one run of neighbouring cache
lines: so each row is used completely before the next one, and nothing is copied or transposed::

    scores     C[:, k] = A B[k, :]       B[k, 0:16] B[k, 16:32] ...   all of one row, then the next; its products with
               for 16 rows k                                          each row of A are an accumulator, and what 16 rows
                                                                      left is added up crosswise at the end

    sums       C += P[:, k] B[k, :]      c0 += p_k * B[k, 0:16]       a row of C stays in registers, as much of it as
               for all rows k            c1 += p_k * B[k, 16:32] ...  there are registers for

With bfloat16 a word of B is two neighbours of a row. Dot products use such words directly; for sums over rows, two rows
are interleaved in registers. If B is int8, its numbers are widened when they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from .language.compiling import Codegen, Pointer, compiled, intrinsic
from .language.llvm import Loop, constant, element_type, exchanged, integer, load_at, multiply_adder, splat, store_at
from .language.simd import lanes_of
from .language.target import TARGET
from .tiles import per_word

TOGETHER = 3  # rows of A or C that share loads; the first row is alone, and reads memory in order
RUN = 32  # rows of B, or pairs of them, that stay in the first-level cache while all rows of C take them

# --- Generation -------------------------------------------------------------------------------------------------------


def scores(rows: int, together: int) -> Any:
    """Return an intrinsic: dot products of ``rows`` rows of A with as many of B as a register has lanes, scaled.

    ``together`` rows of B are read at a time, and used for all rows of A.

    The intrinsic's arguments: ``c, c_at, c_row`` (a register of each row is filled), ``a, a_at, a_row``, ``b, b_at,
    b_row``, ``vectors`` (registers of a row of A and B), ``factor`` (one number), ``scratch`` (a register for each row
    of A and of B).
    """

    @intrinsic
    def tile(
        context: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any, b: Any, b_at: Any, b_row: Any,
        vectors: Any, factor: Any, scratch: Any,
    ) -> tuple[Any, Codegen]:  # fmt: skip
        place = types.intp
        signature = types.void(c, place, place, a, place, place, b, place, place, place, factor, scratch)

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
            c, a, b, factor, scratch = (args[i] for i in (0, 3, 6, 10, 11))
            c_at, c_row, a_at, a_row, b_at, b_row, vectors = (args[i] for i in (1, 2, 4, 5, 7, 8, 9))
            lanes = TARGET.lanes(sig.args[0].dtype.bitwidth)
            number = ir.VectorType(element_type(sig.args[0].dtype), lanes)
            operand = ir.VectorType(element_type(sig.args[3].dtype), lanes)
            multiply_add = multiply_adder(builder, number, pairs=sig.args[6].dtype == types.int32)
            tiles = [(r, key) for r in range(rows) for key in range(together)]
            with Loop(builder, integer(lanes // together), []) as steps:
                first = builder.mul(steps.index, integer(together))
                with Loop(builder, vectors, [constant(number, 0.0)] * len(tiles)) as along:
                    step = builder.mul(along.index, integer(lanes))

                    def loaded(base: ir.Value, start: ir.Value, row: ir.Value, size: ir.Value) -> ir.Value:
                        at = builder.add(builder.add(start, builder.mul(row, size)), step)
                        return numbers_at(builder, base, at, operand)

                    left = [loaded(a, a_at, integer(r), a_row) for r in range(rows)]
                    right = [loaded(b, b_at, builder.add(first, integer(key)), b_row) for key in range(together)]
                    for n, (r, key) in enumerate(tiles):
                        along.carry(n, multiply_add(left[r], right[key], along.carried[n]))
                for (r, key), total in zip(tiles, along.carried, strict=True):
                    at = builder.mul(builder.add(first, integer(r * lanes + key)), integer(lanes))
                    store_at(builder, total, scratch, at)
            scale = splat(builder, builder.load(factor), lanes)
            for r in range(rows):
                sums = [load_at(builder, scratch, integer((r * lanes + i) * lanes), number) for i in range(lanes)]
                size = 1
                while size < lanes:
                    pairs = zip(sums[::2], sums[1::2], strict=True)
                    sums = [builder.fadd(*exchanged(builder, first, second, size)) for first, second in pairs]
                    size *= 2
                at = builder.add(c_at, builder.mul(integer(r), c_row))
                store_at(builder, builder.fmul(sums[0], scale), c, at)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def sums(rows: int, columns: int) -> Any:
    """Return an intrinsic that adds the sum over rows of B, each times its number of P, to rows and registers of C.

    The intrinsic's arguments: ``c, c_at, c_row``, ``p, p_at, p_row`` (in words, a word is the numbers of two rows of
    B), ``b, b_at, b_row`` (rows as they lie in memory), ``inner`` (rows of B; in words, pairs of them).
    """

    @intrinsic
    def tile(
        context: Any, c: Any, c_at: Any, c_row: Any, p: Any, p_at: Any, p_row: Any, b: Any, b_at: Any, b_row: Any,
        inner: Any,
    ) -> tuple[Any, Codegen]:  # fmt: skip
        place = types.intp
        signature = types.void(c, place, place, p, place, place, b, place, place, place)

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
            c, p, b = (args[i] for i in (0, 3, 6))
            c_at, c_row, p_at, p_row, b_at, b_row, inner = (args[i] for i in (1, 2, 4, 5, 7, 8, 9))
            lanes = TARGET.lanes(sig.args[0].dtype.bitwidth)
            number = ir.VectorType(element_type(sig.args[0].dtype), lanes)
            words = sig.args[6].dtype == types.int32
            multiply_add = multiply_adder(builder, number, pairs=words)
            tiles = [(i, j) for j in range(columns) for i in range(rows)]
            places = [
                builder.add(c_at, builder.add(builder.mul(integer(i), c_row), integer(j * lanes))) for i, j in tiles
            ]
            with Loop(builder, inner, [load_at(builder, c, at, number) for at in places]) as loop:
                if words:
                    first = builder.add(b_at, builder.mul(builder.mul(loop.index, integer(2)), b_row))
                    vectors = interleaved(builder, b, first, builder.add(first, b_row), columns, lanes)
                else:
                    row = builder.add(b_at, builder.mul(loop.index, b_row))
                    starts = [builder.add(row, integer(j * lanes)) for j in range(columns)]
                    vectors = [numbers_at(builder, b, start, number) for start in starts]
                steps = [
                    builder.add(builder.add(p_at, builder.mul(integer(i), p_row)), loop.index) for i in range(rows)
                ]
                spread = [splat(builder, builder.load(builder.gep(p, [at])), lanes) for at in steps]
                for n, (i, j) in enumerate(tiles):
                    loop.carry(n, multiply_add(spread[i], vectors[j], loop.carried[n]))
            for at, total in zip(places, loop.carried, strict=True):
                store_at(builder, total, c, at)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def numbers_at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, of: ir.VectorType) -> ir.Value:
    """Load a vector of type ``of`` from element ``index`` of ``base``; int8 is widened."""
    if base.type.pointee != ir.IntType(8):
        return load_at(builder, base, index, of)
    return builder.sitofp(load_at(builder, base, index, ir.VectorType(ir.IntType(8), of.count)), of)


def interleaved(
    builder: ir.IRBuilder, base: ir.Value, first: ir.Value, second: ir.Value, columns: int, lanes: int
) -> list[ir.Value]:
    """Interleave two rows of 16-bit numbers into vectors of pairs: ``columns`` vectors of ``2 * lanes``."""
    result = []
    for column in range(0, columns, 2):
        parts = min(2, columns - column)
        halves = ir.VectorType(ir.IntType(16), parts * lanes)
        words = integer(column * lanes // 2)
        rows = [load_at(builder, base, builder.add(row, words), halves) for row in (first, second)]
        for part in range(parts):
            order = [at for i in range(part * lanes, (part + 1) * lanes) for at in (i, parts * lanes + i)]
            places = ir.Constant(ir.VectorType(ir.IntType(32), 2 * lanes), order)
            result.append(builder.shuffle_vector(*rows, places))
    return result


# --- The loops around them --------------------------------------------------------------------------------------------

WIDE = TARGET.columns
scores_of_one, scores_of_some = scores(1, 1), scores(TOGETHER, WIDE)
one_by_eight, one_by_four, one_by_one = (sums(1, columns) for columns in (2 * WIDE, WIDE, 1))
some_by_eight, some_by_four, some_by_one = (sums(TOGETHER, columns) for columns in (2 * WIDE, WIDE, 1))


@compiled
def multiply_rows(
    c: Pointer, c_row: int, c_at: int, a: Pointer, a_row: int, b: Pointer, b_at: int, b_row: int, rows: int,
    blocks: int, vectors: int, factor: Pointer, scratch: Pointer,
) -> None:  # fmt: skip
    """Compute C = factor[0] * A B^T.

    Pointers are one-dimensional; ``x_row`` is the stride of a matrix's rows in elements.

    Args:
        c: result, (rows, ``blocks`` registers).
        c_row: stride of C's rows.
        c_at: start of C.
        a: (rows, ``vectors`` registers).
        a_row: stride of A's rows.
        b: as many rows as there are lanes in ``blocks`` registers, each contiguous.
        b_at: start of B.
        b_row: stride of B's rows.
        rows: number of rows of A and C.
        blocks: number of registers in a row of C.
        vectors: number of registers in a row of A and B.
        factor: one number.
        scratch: room for a register for each of ``TOGETHER`` rows and each lane.
    """
    lanes = lanes_of(c)
    for block in range(blocks):
        at, r = b_at + block * lanes * b_row, 0
        while r < rows:
            place = c_at + r * c_row + block * lanes
            if r > 0 and r + TOGETHER <= rows:
                scores_of_some(c, place, c_row, a, r * a_row, a_row, b, at, b_row, vectors, factor, scratch)
                r += TOGETHER
            else:
                scores_of_one(c, place, c_row, a, r * a_row, a_row, b, at, b_row, vectors, factor, scratch)
                r += 1


@compiled
def add_sums(
    c: Pointer,
    c_row: int,
    p: Pointer,
    p_at: int,
    p_row: int,
    b: Pointer,
    b_at: int,
    b_row: int,
    rows: int,
    vectors: int,
    inner: int,
) -> None:
    """Compute C += P B; arguments as in :func:`multiply_rows`, ``vectors`` being the registers of a row of C.

    With words, ``inner`` counts pairs of B's rows, and a row of B has half as many words as a row of C has numbers.
    """
    lanes, pair = lanes_of(c), per_word(b)
    for start in range(0, inner, RUN):
        count, r = min(RUN, inner - start), 0
        while r < rows:
            j, some, p_start = 0, r > 0 and r + TOGETHER <= rows, p_at + r * p_row + start
            while j < vectors:
                c_at, at = r * c_row + j * lanes, b_at + start * pair * b_row + j * lanes // pair
                if j + 2 * WIDE <= vectors:
                    if some:
                        some_by_eight(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    else:
                        one_by_eight(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    j += 2 * WIDE
                elif j + WIDE <= vectors:
                    if some:
                        some_by_four(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    else:
                        one_by_four(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    j += WIDE
                else:
                    if some:
                        some_by_one(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    else:
                        one_by_one(c, c_at, c_row, p, p_start, p_row, b, at, b_row, count)
                    j += 1
            r += TOGETHER if some else 1
