"""Building blocks for the intrinsics of this package, which emit LLVM IR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .target import TARGET

# --- Types and constants ----------------------------------------------------------------------------------------------


def element_type(dtype: Any) -> ir.Type:
    """Return LLVM's type of a Numba number type."""
    return {"float32": ir.FloatType(), "float64": ir.DoubleType()}.get(dtype.name) or ir.IntType(dtype.bitwidth)


class BFloat(ir.Type):
    """LLVM's ``bfloat`` type, which llvmlite lacks."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash("bfloat")


def integer(value: int) -> ir.Constant:
    """Return a 64-bit constant."""
    return ir.Constant(ir.IntType(64), value)


def constant(of: ir.VectorType, value: float) -> ir.Constant:
    """Return a constant with the same number in all lanes."""
    return ir.Constant(of, [value] * of.count)


def splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """Broadcast a scalar to all lanes."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def call(builder: ir.IRBuilder, name: str, returns: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
    """Call a function of LLVM."""
    kind = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def suffix(of: ir.VectorType) -> str:
    """Return the suffix of the names of LLVM's functions on such vectors."""
    return f"v{of.count}{of.element.intrinsic_name}"


def load_at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, of: ir.Type) -> ir.Value:
    """Load a value of type ``of`` from element ``index`` of ``base``, with an alignment of 1 byte."""
    value = builder.load(builder.bitcast(builder.gep(base, [index]), of.as_pointer()))
    value.align = 1
    return value


def store_at(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, index: ir.Value) -> None:
    """Store ``value`` to element ``index`` of ``base``, with an alignment of 1 byte."""
    builder.store(value, builder.bitcast(builder.gep(base, [index]), value.type.as_pointer())).align = 1


def exchanged(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, size: int) -> tuple[ir.Value, ir.Value]:
    """Cut two vectors into blocks of ``size`` lanes; exchange the first's odd blocks with the second's even ones.

    Returns:
        The even blocks of both, interleaved, and the odd blocks of both.
    """
    lanes = a.type.count
    places = ir.VectorType(ir.IntType(32), lanes)
    even = [j if not j & size else lanes + j - size for j in range(lanes)]
    odd = [j + size if not j & size else lanes + j for j in range(lanes)]
    return tuple(builder.shuffle_vector(a, b, ir.Constant(places, order)) for order in (even, odd))


class Loop:
    """``for index in range(count)``, with values that are carried between iterations in registers.

    Use it as a context manager; inside, :meth:`carry` sets the values for the next iteration. Afterwards ``carried``
    holds those of the last iteration.
    """

    def __init__(self, builder: ir.IRBuilder, count: ir.Value, start: Sequence[ir.Value]) -> None:
        self.builder = builder
        self.index: ir.PhiInstr
        self.carried: list[ir.PhiInstr] = []
        self._count, self._start = count, start
        self._next: dict[int, ir.Value] = {}

    def __enter__(self) -> Loop:
        builder, before = self.builder, self.builder.block
        self._head, self._body, self._after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(self._head)
        builder.position_at_end(self._head)
        self.index = builder.phi(self._count.type)
        self.index.add_incoming(integer(0), before)
        self.carried = [builder.phi(value.type) for value in self._start]
        for phi, value in zip(self.carried, self._start, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", self.index, self._count), self._body, self._after)
        builder.position_at_end(self._body)
        return self

    def carry(self, number: int, value: ir.Value) -> None:
        """Set the carried value with this index for the next iteration."""
        self._next[number] = value

    def __exit__(self, *raised: object) -> None:
        end = self.builder.block
        self.index.add_incoming(self.builder.add(self.index, integer(1)), end)
        for number, phi in enumerate(self.carried):
            phi.add_incoming(self._next[number], end)
        self.builder.branch(self._head)
        self.builder.position_at_end(self._after)


# --- Arithmetic -------------------------------------------------------------------------------------------------------


def multiply_adder(builder: ir.IRBuilder, number: ir.VectorType, *, pairs: bool) -> Callable[..., ir.Value]:
    """Return a function that emits A * B + C, A being broadcast, for numbers or for pairs of bfloat16."""
    if not pairs:
        return lambda a, b, c: call(builder, f"llvm.fma.{suffix(number)}", number, [a, b, c])
    assert TARGET.bfloat16_dot is not None
    name, halves = TARGET.bfloat16_dot, ir.VectorType(BFloat(), 2 * number.count)
    return lambda a, b, c: call(builder, name, number, [c, builder.bitcast(a, halves), builder.bitcast(b, halves)])


def reduced(builder: ir.IRBuilder, vector: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """Reduce a vector by combining halves until one number is left."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        places = ir.VectorType(ir.IntType(32), lanes)
        low, high = (
            builder.shuffle_vector(vector, vector, ir.Constant(places, list(range(start, start + lanes))))
            for start in (0, lanes)
        )
        vector = combine(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


# Polynomials with the smallest relative error on [-1/2, 1/2], lowest powers first: by the Remez algorithm, 40 digits.
EXP2 = {
    32: (
        1.0000000005541647, 0.6931472057371958, 0.24022646890645522, 0.05550328777105325, 0.009618488956331182,
        0.0013399931177239738, 0.00015345812161311629,
    ),
    64: (
        1.0, 0.6931471805599453, 0.24022650695910155, 0.055504108664819925, 0.009618129107588335, 0.0013333558146789923,
        0.00015403530462514432, 1.5252733489988525e-05, 1.32154330896764e-06, 1.0178198021671931e-07,
        7.074105613508143e-09, 4.435282706957277e-10,
    ),
}  # fmt: skip
# For results that are rounded to bfloat16, whose unit roundoff is 3000 times this polynomial's error of 2.6e-6.
EXP2_FOR_BFLOAT16 = (
    0.9999992614416003, 0.6931218147430911, 0.24024744831484726, 0.05591786034055626, 0.009570101863299818,
)  # fmt: skip


def emit_exp2(builder: ir.IRBuilder, x: ir.Value, polynomial: Sequence[float] | None = None) -> ir.Value:
    """Emit 2 to the power of each lane; see :func:`simd.exp2`."""
    of = x.type
    bits = 32 if isinstance(of.element, ir.FloatType) else 64
    polynomial = polynomial or EXP2[bits]
    if TARGET.scale is None:
        return _exp2_by_exponent(builder, x, bits, polynomial)
    whole = call(builder, f"llvm.roundeven.{suffix(of)}", of, [x])
    all_lanes = ir.Constant(ir.IntType(max(8, of.count)), -1)
    rounding = ir.Constant(ir.IntType(32), 4)  # the current rounding mode
    power = emit_polynomial(builder, builder.fsub(x, whole), polynomial)
    # 2^-inf is 0 here, although x - whole is NaN: the instruction is defined that way.
    return call(builder, TARGET.scale[bits], of, [power, whole, constant(of, 0.0), all_lanes, rounding])


def _exp2_by_exponent(builder: ir.IRBuilder, x: ir.Value, bits: int, polynomial: Sequence[float]) -> ir.Value:
    """Emit exp2 by adding the integer part to the exponent's bits. Results below the normal numbers are 0."""
    of = x.type
    mantissa, lowest = {32: (23, -126.0), 64: (52, -1022.0)}[bits]
    low = constant(of, lowest)
    tiny = builder.fcmp_ordered("<", x, low)
    inside = builder.select(tiny, low, x)  # NaN stays
    whole = call(builder, f"llvm.roundeven.{suffix(of)}", of, [inside])
    power = emit_polynomial(builder, builder.fsub(inside, whole), polynomial)
    integers = ir.VectorType(ir.IntType(bits), of.count)
    shift = ir.Constant(integers, [mantissa] * of.count)
    exponent = builder.shl(builder.fptosi(whole, integers), shift)
    scaled = builder.bitcast(builder.add(builder.bitcast(power, integers), exponent), of)
    # A NaN has no integer part, so its scaled bits are meaningless.
    scaled = builder.select(builder.fcmp_ordered("==", x, x), scaled, x)
    return builder.select(tiny, constant(of, 0.0), scaled)


def emit_polynomial(builder: ir.IRBuilder, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """Emit a polynomial by Horner's rule."""
    value = constant(x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = call(builder, f"llvm.fma.{suffix(x.type)}", x.type, [value, x, constant(x.type, coefficient)])
    return value
