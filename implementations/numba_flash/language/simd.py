"""Vectors of one register as values in Numba, with which the kernels of this package are written.

Numba compiles scalars, and leaves vectorisation of loops to LLVM. Here a vector is a type of its own, so that a loop
states what stays in registers. LLVM lowers the same code to AVX-512, AVX2 or NEON; the width is the register's.

A ``Vector`` is loaded from and stored to memory by a pointer and an index that counts elements. ``+``,
``-`` and ``*`` work between vectors of one type; comparisons return a mask for :func:`select`. The compiler never
assumes that there is no infinity or NaN.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from .compiling import Codegen, Pointer, compiled, intrinsic
from .llvm import (
    EXP2_FOR_BFLOAT16,
    call,
    constant,
    element_type,
    emit_exp2,
    exchanged,
    integer,
    load_at,
    reduced,
    splat,
    store_at,
    suffix,
)
from .target import TARGET

# --- The types --------------------------------------------------------------------------------------------------------


class Vector(types.Type):
    """A vector: as many numbers as a register holds.

    Args:
        dtype: Numba type of a lane.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = TARGET.lanes(dtype.bitwidth)
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


class Mask(types.Type):
    """A mask: one bit per lane of a vector."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, vector_type(fe_type))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Mask) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), fe_type.lanes))


def vector_type(vector: Vector) -> ir.VectorType:
    """Return LLVM's type of a vector."""
    return ir.VectorType(element_type(vector.dtype), vector.lanes)


@intrinsic
def lanes_of(context: Any, kind: Any) -> tuple[Any, Codegen]:
    """Return the lanes of a vector of a type, or of a pointer's element type: a constant."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return integer(TARGET.lanes(sig.args[0].dtype.bitwidth))

    return types.intp(kind), codegen


# --- Memory -----------------------------------------------------------------------------------------------------------


@intrinsic
def load(context: Any, pointer: Any, index: Any) -> tuple[Any, Codegen]:
    """Load a vector from element ``index`` on."""
    vector = Vector(pointer.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return load_at(builder, args[0], args[1], vector_type(vector))

    return vector(pointer, types.intp), codegen


@intrinsic
def store(context: Any, pointer: Any, index: Any, vector: Any) -> tuple[Any, Codegen]:
    """Store a vector to element ``index`` and following."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        store_at(builder, args[2], args[0], args[1])
        return context.get_dummy_value()

    return types.void(pointer, types.intp, vector), codegen


@intrinsic
def spread(context: Any, kind: Any, scalar: Any) -> tuple[Any, Codegen]:
    """Broadcast a number to all lanes of a vector of a type, or of a pointer's element type; rounded to it."""
    vector = Vector(kind.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return splat(builder, context.cast(builder, args[1], sig.args[1], vector.dtype), vector.lanes)

    return vector(kind, scalar), codegen


@intrinsic
def lane_numbers(context: Any, pointer: Any) -> tuple[Any, Codegen]:
    """Return the vector 0, 1, 2, ... of a pointer's element type, an integer type."""
    vector = Vector(pointer.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(vector_type(vector), list(range(vector.lanes)))

    return vector(pointer), codegen


# --- Arithmetic -------------------------------------------------------------------------------------------------------


def _operator(function: Any, on_floats: str, on_integers: str) -> None:
    """Define an operator for two vectors by the names of the builder's methods for floats and integers."""

    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Vector, Vector)
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        name = on_floats if isinstance(sig.args[0].dtype, types.Float) else on_integers
        return getattr(builder, name)(*args)


_operator(operator.add, "fadd", "add")
_operator(operator.sub, "fsub", "sub")
_operator(operator.mul, "fmul", "mul")
_operator(operator.truediv, "fdiv", "sdiv")


def _comparison(function: Any, sign: str) -> None:
    """Define a comparison of two vectors, which returns a mask; False where a number is NaN."""

    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(Mask(args[0].lanes), *args)
            return None

    @lower_builtin(function, Vector, Vector)
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        compare = builder.fcmp_ordered if isinstance(sig.args[0].dtype, types.Float) else builder.icmp_signed
        return compare(sign, *args)


_comparison(operator.lt, "<")
_comparison(operator.le, "<=")
_comparison(operator.eq, "==")


@infer_global(operator.and_)
class _AndMasks(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return (
            signature(args[0], *args) if len(args) == 2 and isinstance(args[0], Mask) and args[0] == args[1] else None
        )


@lower_builtin(operator.and_, Mask, Mask)
def _and_masks(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    return builder.and_(*args)


@intrinsic
def select(context: Any, mask: Any, yes: Any, no: Any) -> tuple[Any, Codegen]:
    """Return lanes of ``yes`` where the mask is set, of ``no`` elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.select(*args)

    return yes(mask, yes, no), codegen


@intrinsic
def any_lane(context: Any, mask: Any) -> tuple[Any, Codegen]:
    """Whether any bit of a mask is set."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        bits = builder.bitcast(args[0], ir.IntType(sig.args[0].lanes))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen


@intrinsic
def maximum(context: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """Return the larger number in each lane; ``b`` where either is NaN."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def fma(context: Any, a: Any, b: Any, c: Any) -> tuple[Any, Codegen]:
    """Compute a * b + c, rounded once."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return call(builder, f"llvm.fma.{suffix(args[0].type)}", args[0].type, args)

    return a(a, b, c), codegen


@intrinsic
def sum_of(context: Any, vector: Any) -> tuple[Any, Codegen]:
    """Sum the lanes pairwise."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return reduced(builder, args[0], builder.fadd)

    return vector.dtype(vector), codegen


@intrinsic
def largest_of(context: Any, vector: Any) -> tuple[Any, Codegen]:
    """Return the largest lane; NaN is not propagated reliably."""

    def larger(builder: ir.IRBuilder) -> Callable[[ir.Value, ir.Value], ir.Value]:
        return lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return reduced(builder, args[0], larger(builder))

    return vector.dtype(vector), codegen


@intrinsic
def exp(context: Any, x: Any) -> tuple[Any, Codegen]:
    """Compute exp of each lane, as a power of two; the error is at most (2 + abs(x)) units in the last place."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        log2_e = constant(args[0].type, math.log2(math.e))
        return emit_exp2(builder, builder.fmul(args[0], log2_e))

    return x(x), codegen


@intrinsic
def exp2(context: Any, x: Any) -> tuple[Any, Codegen]:
    """Compute 2 to the power of each lane: 0 for -inf, NaN for NaN. Results below the smallest normal number may be 0.

    The nearest integer goes into the exponent; a polynomial approximates the power of the rest, which is in
    [-1/2, 1/2]. The error is at most 2 units in the last place.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit_exp2(builder, args[0])

    return x(x), codegen


@intrinsic
def exp2_for_bfloat16(context: Any, x: Any) -> tuple[Any, Codegen]:
    """Like :func:`exp2`, for float32 results that are rounded to bfloat16: a shorter polynomial, to 18 bits."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit_exp2(builder, args[0], EXP2_FOR_BFLOAT16)

    return x(x), codegen


# --- Transposition ----------------------------------------------------------------------------------------------------


@intrinsic
def transpose_block(
    context: Any, target: Any, target_at: Any, target_row: Any, source: Any, source_at: Any, source_row: Any
) -> tuple[Any, Codegen]:
    """Transpose a square block of as many rows as a register has lanes, in registers.

    Blocks of 1, 2, 4, ... are exchanged across the diagonal, for all pairs of rows at once.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        target, source = args[0], args[3]
        lanes = TARGET.lanes(sig.args[0].dtype.bitwidth)
        vector = ir.VectorType(element_type(sig.args[0].dtype), lanes)
        places = [builder.add(args[4], builder.mul(integer(i), args[5])) for i in range(lanes)]
        rows = [load_at(builder, source, at, vector) for at in places]
        size = 1
        while size < lanes:
            for i in range(lanes):
                if not i & size:
                    rows[i], rows[i + size] = exchanged(builder, rows[i], rows[i + size], size)
            size *= 2
        for i, row in enumerate(rows):
            store_at(builder, row, target, builder.add(args[1], builder.mul(integer(i), args[2])))
        return context.get_dummy_value()

    place = types.intp
    return types.void(target, place, place, source, place, place), codegen


@compiled
def transpose(
    target: Pointer, target_at: int, target_row: int, source: Pointer, source_at: int, source_row: int, rows: int,
    columns: int,
) -> None:  # fmt: skip
    """Transpose a tile of ``rows`` by ``columns``; both sizes are rounded up to whole registers."""
    lanes = lanes_of(target)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            to, origin = target_at + j * target_row + i, source_at + i * source_row + j
            transpose_block(target, to, target_row, source, origin, source_row)
