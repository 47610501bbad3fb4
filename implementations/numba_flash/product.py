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

Each step of p does 24 multiply-adds for 4 loads and 6 numbers of A, without stalls: a multiply-add takes 4 cycles, and
its accumulator is needed again 24 multiply-adds later. Only B must be contiguous, and only along a row; A may have any
strides, including transposed ones, since it is read one number at a time. The general form is described by Goto and van
de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).

With bfloat16 each 32-bit word of A and of B is a pair of numbers, neighbours along p, and a multiply-add takes both
pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from .language.compiling import Codegen, intrinsic
from .language.llvm import Loop, constant, element_type, integer, load_at, multiply_adder, splat, store_at
from .language.target import TARGET

WIDE = TARGET.columns

# --- Generation -------------------------------------------------------------------------------------------------------


def micro_kernel(
    builder: ir.IRBuilder, rows: int, columns: int, number: Any, operand: Any, args: Sequence[Any]
) -> None:
    """Emit code for a tile of C, ``rows`` by ``columns`` vectors.

    Args:
        builder: the builder to emit with.
        rows: rows of C.
        columns: columns of C, in vectors.
        number: Numba's type of C's numbers.
        operand: Numba's type of A's and B's elements; an integer is a pair of bfloat16.
        args: ``c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, inner`` as in :func:`multiply`; and ``factor,
            factor_at`` if the product is added to C, each column times ``factor[column]``. Else C starts from zero.
    """
    c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, inner, *factors = args
    lanes = TARGET.lanes(number.bitwidth)
    vector, loaded = (ir.VectorType(element_type(dtype), lanes) for dtype in (number, operand))
    multiply_add = multiply_adder(builder, vector, pairs=isinstance(operand, types.Integer))
    tiles = [(i, j) for i in range(rows) for j in range(columns)]
    places = [builder.add(c_at, builder.add(builder.mul(integer(i), c_row), integer(j * lanes))) for i, j in tiles]
    if factors:
        factor, at = factors
        by = [load_at(builder, factor, builder.add(at, integer(j * lanes)), vector) for j in range(columns)]
        first = [
            builder.fmul(load_at(builder, c, place, vector), by[j]) for (_, j), place in zip(tiles, places, strict=True)
        ]
    else:
        first = [constant(vector, 0.0) for _ in tiles]

    with Loop(builder, inner, first) as loop:
        b_p = builder.add(b_at, builder.mul(loop.index, b_row))
        vectors = [load_at(builder, b, builder.add(b_p, integer(j * lanes)), loaded) for j in range(columns)]
        a_p = builder.add(a_at, builder.mul(loop.index, a_step))
        for n, (i, j) in enumerate(tiles):
            if j == 0:
                one = builder.load(builder.gep(a, [builder.add(a_p, builder.mul(integer(i), a_row))]))
                spread = splat(builder, one, lanes)
            loop.carry(n, multiply_add(spread, vectors[j], loop.carried[n]))
    for place, accumulator in zip(places, loop.carried, strict=True):
        store_at(builder, accumulator, c, place)


def product(module: ir.Module, number: Any, operand: Any, kinds: Sequence[ir.Type], *, add: bool) -> ir.Function:
    """Return a function for all sizes of C: tiles of six rows, and of two and one for the rest; likewise columns.

    It is not inlined, as many copies of its tiles would dominate the compilation of a kernel.

    Args:
        module: the module to which the function is added.
        number: Numba's type of C's numbers.
        operand: Numba's type of A's and B's elements.
        kinds: types of the arguments of :func:`multiply` or :func:`multiply_add`.
        add: whether there is a ``factor``.
    """
    name = f"numba_flash.{'multiply_add' if add else 'multiply'}.{number}.{operand}"
    if name in module.globals:
        return module.get_global(name)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("uwtable")  # so that a profiler finds its callers
    builder = ir.IRBuilder(function.append_basic_block())
    c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, vectors, inner, *factors = function.args
    lanes, done = TARGET.lanes(number.bitwidth), integer(0)
    for columns in (WIDE, 1):
        stripes = builder.sdiv(builder.sub(vectors, done), integer(columns))
        with Loop(builder, stripes, []) as stripe:
            j = builder.mul(builder.add(done, builder.mul(stripe.index, integer(columns))), integer(lanes))
            covered = integer(0)
            for height in (6, 2, 1):
                count = builder.sdiv(builder.sub(rows, covered), integer(height))
                with Loop(builder, count, []) as tile:
                    i = builder.add(covered, builder.mul(tile.index, integer(height)))
                    c_tile = builder.add(builder.add(c_at, j), builder.mul(i, c_row))
                    a_tile = builder.add(a_at, builder.mul(i, a_row))
                    scaled = [factors[0], builder.add(factors[1], j)] if add else []
                    micro_kernel(
                        builder, height, columns, number, operand,
                        [c, c_tile, c_row, a, a_tile, a_row, a_step, b, builder.add(b_at, j), b_row, inner, *scaled],
                    )  # fmt: skip
                covered = builder.add(covered, builder.mul(count, integer(height)))
        done = builder.add(done, builder.mul(stripes, integer(columns)))
    builder.ret_void()
    return function


# --- To be called -----------------------------------------------------------------------------------------------------


@intrinsic
def multiply(
    context: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any, a_step: Any, b: Any, b_at: Any,
    b_row: Any, rows: Any, vectors: Any, inner: Any,
) -> tuple[Any, Codegen]:  # fmt: skip
    """Compute C = A B.

    Pointers are to the start of a matrix's memory; ``x_at`` is the matrix's own start, in elements.

    Args:
        context: Numba's.
        c: result, ``rows`` by ``vectors`` registers.
        c_at: start of C.
        c_row: stride of C's rows, in elements, like all strides.
        a: (rows, inner).
        a_at: start of A.
        a_row: stride of A's rows.
        a_step: stride of A's columns.
        b: (inner, vectors), each row contiguous.
        b_at: start of B.
        b_row: stride of B's rows.
        rows: number of rows of C and A.
        vectors: number of registers in a row of C and B.
        inner: length of the sums, in words if the elements are pairs of bfloat16.
    """
    at = types.intp

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kinds = [value.type for value in args]
        builder.call(product(builder.module, sig.args[0].dtype, sig.args[3].dtype, kinds, add=False), args)
        return context.get_dummy_value()

    return types.void(c, at, at, a, at, at, at, b, at, at, at, at, at), codegen


@intrinsic
def multiply_add(
    context: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any, a_step: Any, b: Any, b_at: Any,
    b_row: Any, rows: Any, vectors: Any, inner: Any, factor: Any, factor_at: Any,
) -> tuple[Any, Codegen]:  # fmt: skip
    """Compute C[:, j] = factor[j] * C[:, j] + (A B)[:, j]; the other arguments are those of :func:`multiply`."""
    at = types.intp

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kinds = [value.type for value in args]
        builder.call(product(builder.module, sig.args[0].dtype, sig.args[3].dtype, kinds, add=True), args)
        return context.get_dummy_value()

    return types.void(c, at, at, a, at, at, at, b, at, at, at, at, at, factor, at), codegen
