"""Products of small matrices: generated micro-kernels, and the loops around them.

    C[i, :] = A[i, :] B        for a few rows of A, a few registers of C's columns, and any inner length

The micro-kernel keeps a tile of C in registers, ``rows`` by ``columns`` vectors; on AVX-512, 6 by 4 of the 32
registers::

                        B[p, 0:16]   B[p, 16:32]  B[p, 32:48]  B[p, 48:64]      4 vectors are loaded
          A[0, p]  ->   c00 +=       c01 +=       c02 +=       c03 +=
          A[1, p]  ->   c10 +=       c11 +=       c12 +=       c13 +=           24 accumulators
            ...                          ...
          A[5, p]  ->   c50 +=       c51 +=       c52 +=       c53 +=
             |
         1 vector: one number, in all lanes

Each step of p does 24 multiply-adds for 4 loads and 6 numbers of A, and nothing waits for anything: a multiply-add
takes 4 cycles, and its accumulator is needed again 24 later. Only B has to be contiguous, and only along a row; A may
have any strides, transposed ones too, since it is read a number at a time. Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication" (2008), has the general form.

With bfloat16 each 32-bit word of A and of B is a pair of numbers, neighbours along p, and a multiply-add takes both
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from .compiling import Array, compiled, intrinsic, named
from .llvm import (
    Loop,
    constant,
    data_of,
    element_type,
    integer,
    load_at,
    multiply_adder,
    splat,
    store_at,
)
from .simd import lanes_of
from .target import TARGET

# --- Generation -------------------------------------------------------------------------------------------------------


def micro_kernel(rows: int, columns: int, *, add: bool) -> Any:
    """A tile of C, ``rows`` by ``columns`` vectors.

    The intrinsic's arguments are those of :func:`multiply_add`, less the sizes of C, which are in the code.

    Args:
        rows: of C.
        columns: of C, in vectors.
        add: start from C, each column times ``factor[column]``. Otherwise start from zero; ``factor`` is not read.
    """

    @intrinsic
    def tile(
        context: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any, a_step: Any, b: Any, b_at: Any,
        b_row: Any, inner: Any, factor: Any, factor_at: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        signature = types.void(
            c, types.intp, types.intp, a, types.intp, types.intp, types.intp, b, types.intp, types.intp, types.intp,
            factor, types.intp,
        )  # fmt: skip

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
            c, a, b, factor = (data_of(context, builder, sig.args[i], args[i]) for i in (0, 3, 7, 11))
            c_at, c_row, a_at, a_row, a_step, b_at, b_row, inner, factor_at = (
                args[i] for i in (1, 2, 4, 5, 6, 8, 9, 10, 12)
            )
            lanes = TARGET.lanes(sig.args[0].dtype.bitwidth)
            number = ir.VectorType(element_type(sig.args[0].dtype), lanes)
            operand = ir.VectorType(element_type(sig.args[3].dtype), lanes)
            multiply_add = multiply_adder(builder, number, pairs=isinstance(sig.args[3].dtype, types.Integer))

            def place(i: int, j: int) -> ir.Value:
                return builder.add(c_at, builder.add(builder.mul(integer(i), c_row), integer(j * lanes)))

            tiles = [(i, j) for i in range(rows) for j in range(columns)]
            if add:
                factors = [
                    load_at(builder, factor, builder.add(factor_at, integer(j * lanes)), number) for j in range(columns)
                ]
                start = [builder.fmul(load_at(builder, c, place(i, j), number), factors[j]) for i, j in tiles]
            else:
                start = [constant(number, 0.0) for _ in tiles]

            with Loop(builder, inner, start) as loop:
                b_p = builder.add(b_at, builder.mul(loop.index, b_row))
                vectors = [load_at(builder, b, builder.add(b_p, integer(j * lanes)), operand) for j in range(columns)]
                a_p = builder.add(a_at, builder.mul(loop.index, a_step))
                for n, (i, j) in enumerate(tiles):
                    if j == 0:
                        one = builder.load(builder.gep(a, [builder.add(a_p, builder.mul(integer(i), a_row))]))
                        spread = splat(builder, one, lanes)
                    loop.carry(n, multiply_add(spread, vectors[j], loop.carried[n]))
            for (i, j), accumulator in zip(tiles, loop.carried, strict=True):
                store_at(builder, accumulator, c, place(i, j))
            return context.get_dummy_value()

        return signature, codegen

    return tile


# --- The loops around them --------------------------------------------------------------------------------------------


def stripe(columns: int, *, add: bool) -> Callable[..., None]:
    """All rows of C in a stripe of so many vectors: tiles of six rows, and of two and one for what remains."""
    six, two, one = (micro_kernel(rows, columns, add=add) for rows in (6, 2, 1))

    def cover(
        c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_step: int, b: Array, b_at: int, b_row: int,
        rows: int, inner: int, factor: Array, factor_at: int,
    ) -> None:  # fmt: skip
        i = 0
        while i + 6 <= rows:
            six(
                c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_step, b, b_at, b_row, inner, factor, factor_at
            )
            i += 6
        while i + 2 <= rows:
            two(
                c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_step, b, b_at, b_row, inner, factor, factor_at
            )
            i += 2
        if i < rows:
            one(
                c, c_at + i * c_row, c_row, a, a_at + i * a_row, a_row, a_step, b, b_at, b_row, inner, factor, factor_at
            )

    return compiled(named(cover, f"{'add' if add else 'set'}_stripe_of_{columns}"))


WIDE = TARGET.columns
set_wide, set_narrow = (stripe(columns, add=False) for columns in (WIDE, 1))
add_wide, add_narrow = (stripe(columns, add=True) for columns in (WIDE, 1))


@compiled
def multiply(
    c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_step: int, b: Array, b_at: int, b_row: int,
    rows: int, vectors: int, inner: int,
) -> None:  # fmt: skip
    """C = A B.

    All arrays are one-dimensional; ``x_at`` is where a matrix begins in its array.

    Args:
        c: result, ``rows`` by ``vectors`` registers.
        c_at: as said.
        c_row: from one of its rows to the next, in elements; so are the following.
        a: (rows, inner).
        a_at: as said.
        a_row: from row to row.
        a_step: from column to column.
        b: (inner, vectors), each row contiguous.
        b_at: as said.
        b_row: from row to row.
        rows: of C and A.
        vectors: of a row of C and B.
        inner: length of the sums; words, where the elements are pairs of bfloat16.
    """
    j, lanes = 0, lanes_of(c)
    while j < vectors:
        at = j * lanes
        if j + WIDE <= vectors:
            set_wide(c, c_at + at, c_row, a, a_at, a_row, a_step, b, b_at + at, b_row, rows, inner, c, 0)
            j += WIDE
        else:
            set_narrow(c, c_at + at, c_row, a, a_at, a_row, a_step, b, b_at + at, b_row, rows, inner, c, 0)
            j += 1


@compiled
def multiply_add(
    c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_step: int, b: Array, b_at: int, b_row: int,
    rows: int, vectors: int, inner: int, factor: Array, factor_at: int,
) -> None:  # fmt: skip
    """C[:, j] = factor[j] * C[:, j] + (A B)[:, j]; arguments are those of :func:`multiply`."""
    j, lanes = 0, lanes_of(c)
    while j < vectors:
        at, column = j * lanes, factor_at + j * lanes
        if j + WIDE <= vectors:
            add_wide(c, c_at + at, c_row, a, a_at, a_row, a_step, b, b_at + at, b_row, rows, inner, factor, column)
            j += WIDE
        else:
            add_narrow(c, c_at + at, c_row, a, a_at, a_row, a_step, b, b_at + at, b_row, rows, inner, factor, column)
            j += 1
