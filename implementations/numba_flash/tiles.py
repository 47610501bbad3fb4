"""Conversion between the caller's tensors and the tiles that the kernels work on.

Tensors have any strides and one of four dtypes. NumPy has no bfloat16, and Numba no float16 on a CPU, so both are
passed as their bits: bfloat16 as uint16, float16 as int16. Tiles are matrices in memory whose rows are padded with
zeros to whole registers. They hold float32, float64 or, if the processor multiplies pairs of bfloat16, words of two
numbers, ``int32``.

The behaviour of a function depends only on these types, and is chosen at compile time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .arguments import Matrix, moved, pointer
from .language.compiling import Codegen, Number, Pointer, chosen_by_types, compiled, intrinsic
from .language.llvm import BFloat, call, element_type, integer, load_at, store_at
from .language.simd import Vector, lanes_of, load, store, vector_type
from .language.target import TARGET

# --- Memory to work in ------------------------------------------------------------------------------------------------

LINE = 64  # bytes of a line of the cache, and of the widest register


@intrinsic
def allocate(context: Any, size: Any) -> tuple[Any, Codegen]:
    """Allocate ``size`` bytes of uninitialised memory, and return the address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "malloc"), args)

    return types.int64(types.int64), codegen


@intrinsic
def release(context: Any, address: Any) -> tuple[Any, Codegen]:
    """Free memory from :func:`allocate`."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "free"), args)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def bytes_of(context: Any, kind: Any) -> tuple[Any, Codegen]:
    """Return the size of a number of type ``kind`` in bytes, as a constant."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(ir.IntType(64), sig.args[0].dtype.bitwidth // 8)

    return types.int64(kind), codegen


@compiled
def line_from(address: int) -> int:
    """Return the first start of a cache line at or after ``address``."""
    return (address + LINE - 1) // LINE * LINE


@compiled
def after(address: int, count: int, kind: Number) -> int:
    """Return the first cache line past ``count`` numbers."""
    return line_from(address + count * bytes_of(kind))


@compiled
def padded(width: int, kind: Number) -> int:
    """Round up to a multiple of a register's lanes."""
    lanes: int = lanes_of(kind)
    return (width + lanes - 1) // lanes * lanes


@compiled
def fill(pointer: Pointer, at: int, count: int, value: float) -> None:
    """Set ``count`` numbers from ``at`` on."""
    start = moved(pointer, at)
    for i in range(count):
        start[i] = value


# --- Words and numbers ------------------------------------------------------------------------------------------------


@intrinsic
def per_word(context: Any, kind: Any) -> tuple[Any, Codegen]:
    """Return the numbers in an element of a tile, a constant: 2 in a tile of words, else 1."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return integer(2 if sig.args[0].dtype == types.int32 else 1)

    return types.intp(kind), codegen


@intrinsic
def shared(context: Any, source: Any, tile: Any) -> tuple[Any, Codegen]:
    """Return the numbers of a tensor in an element of a tile if both are the same in memory, else 0; a constant."""
    pairs = source.dtype == types.uint16 and tile.dtype == types.int32
    numbers = 2 if pairs else int(source.dtype == tile.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return integer(numbers)

    return types.intp(source, tile), codegen


@intrinsic
def address_of(context: Any, pointer: Any) -> tuple[Any, Codegen]:
    """Return a pointer's address as an integer."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), codegen


@compiled
def in_place(source: Matrix, tile: Number) -> bool:
    """Whether rows of a matrix can serve as a tile's in place: the same numbers, in whole registers."""
    numbers = shared(source.data, tile)
    if numbers == 0 or source.column != 1 or source.row % numbers != 0 or source.page_size > 0:
        return False
    return source.width % (numbers * lanes_of(tile)) == 0 and address_of(source.data) % bytes_of(tile) == 0


@compiled
def flat(source: Matrix, tile: Number) -> Pointer:
    """Return a pointer of the tile's type to a matrix that is :func:`in_place`."""
    return pointer(address_of(source.data), tile)


@compiled
def wide(index: Any) -> Any:
    """Convert an index of any type to 64 bits."""
    return np.int64(index)


# --- Numbers of one dtype to another ----------------------------------------------------------------------------------


def _widened(builder: ir.IRBuilder, value: ir.Value, source: Any, to: ir.Type) -> ir.Value:
    """Convert a number of a tensor, or a vector of them, to the type of a tile."""
    if source in {types.float32, types.float64}:
        return value
    lanes = getattr(value.type, "count", None)

    def shaped(element: ir.Type) -> ir.Type:
        return element if lanes is None else ir.VectorType(element, lanes)

    if source == types.int8:  # a quantised number: its scale is multiplied elsewhere
        return builder.sitofp(value, shaped(to.element if lanes else to))
    if source == types.int16:
        return builder.fpext(builder.bitcast(value, shaped(ir.HalfType())), to)
    bits = builder.zext(value, shaped(ir.IntType(32)))
    sixteen = ir.Constant(bits.type, 16 if lanes is None else [16] * lanes)
    return builder.bitcast(builder.shl(bits, sixteen), to)


def _bfloat16_bits(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Round a vector of float32 to the nearest bfloat16, ties to even, as 16-bit integers."""
    lanes = value.type.count
    if TARGET.round_to_bfloat16 is not None:
        rounded = call(builder, TARGET.round_to_bfloat16, ir.VectorType(BFloat(), lanes), [value])
        return builder.bitcast(rounded, ir.VectorType(ir.IntType(16), lanes))
    words = ir.VectorType(ir.IntType(32), lanes)

    def all_lanes(number: int) -> ir.Constant:
        return ir.Constant(words, [number] * lanes)

    bits = builder.bitcast(value, words)
    high = builder.lshr(bits, all_lanes(16))
    odd = builder.and_(high, all_lanes(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, all_lanes(0x7FFF))), all_lanes(16))
    quiet = builder.or_(high, all_lanes(0x40))  # adding to a NaN's bits could turn it into a number
    numbers = builder.fcmp_ordered("==", value, value)
    return builder.trunc(builder.select(numbers, rounded, quiet), ir.VectorType(ir.IntType(16), lanes))


@intrinsic
def widen(context: Any, tile: Any, source: Any, index: Any) -> tuple[Any, Codegen]:
    """Load a vector of the tile's type from element ``index`` of a tensor on, widening each number."""
    vector = Vector(tile.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        given = ir.VectorType(element_type(sig.args[1].dtype), vector.lanes)
        if isinstance(tile.dtype, types.Integer):  # words of two
            return load_at(builder, args[1], args[2], vector_type(vector))
        return _widened(builder, load_at(builder, args[1], args[2], given), sig.args[1].dtype, vector_type(vector))

    return vector(tile, source, types.intp), codegen


@intrinsic
def widen_number(context: Any, tile: Any, number: Any) -> tuple[Any, Codegen]:
    """Convert one number of a tensor to the tile's type."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _widened(builder, args[1], sig.args[1], element_type(sig.args[0].dtype))

    return tile.dtype(tile, number), codegen


@intrinsic
def narrow(context: Any, target: Any, index: Any, vector: Any) -> tuple[Any, Codegen]:
    """Store a vector to a tensor, rounded to its dtype, from element ``index`` on."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, dtype = args[2], sig.args[0].dtype
        if dtype == types.int16:
            half, bits = (ir.VectorType(of, value.type.count) for of in (ir.HalfType(), ir.IntType(16)))
            value = builder.bitcast(builder.fptrunc(value, half), bits)
        elif dtype == types.uint16:
            value = _bfloat16_bits(builder, value)
        store_at(builder, value, args[0], args[1])
        return context.get_dummy_value()

    return types.void(target, types.intp, vector), codegen


@intrinsic
def pair_vectors(context: Any, words: Any, first: Any, second: Any) -> tuple[Any, Codegen]:
    """Combine two vectors of float32 into words: in each lane, the first is the low half and the second the high."""
    vector = Vector(words.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if TARGET.round_two_to_bfloat16 is not None:
            return _rounded_in_pairs(builder, TARGET.round_two_to_bfloat16, *args[1:])
        low, high = (builder.zext(_bfloat16_bits(builder, value), vector_type(vector)) for value in args[1:])
        return _paired(builder, low, high)

    return vector(words, first, second), codegen


@intrinsic
def pair_rows(context: Any, words: Any, source: Any, first: Any, second: Any) -> tuple[Any, Codegen]:
    """Combine two rows into words: elements from ``first`` on are the low halves, from ``second`` on the high ones."""
    vector = Vector(words.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        halves = ir.VectorType(ir.IntType(16), vector.lanes)
        low, high = (builder.zext(load_at(builder, args[1], at, halves), vector_type(vector)) for at in args[2:4])
        return _paired(builder, low, high)

    return vector(words, source, types.intp, types.intp), codegen


@intrinsic
def store_halves(context: Any, words: Any, index: Any, vector: Any) -> tuple[Any, Codegen]:
    """Store a vector of float32 as half as many words, from element ``index`` on: a word is two neighbouring lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        halves = _bfloat16_bits(builder, args[2])
        store_at(builder, halves, args[0], args[1])
        return context.get_dummy_value()

    return types.void(words, types.intp, vector), codegen


def _rounded_in_pairs(builder: ir.IRBuilder, function: str, low: ir.Value, high: ir.Value) -> ir.Value:
    """Round two vectors with one instruction, and interleave the results."""
    lanes = low.type.count
    rounded = call(builder, function, ir.VectorType(BFloat(), 2 * lanes), [high, low])
    halves = builder.bitcast(rounded, ir.VectorType(ir.IntType(16), 2 * lanes))
    order = [at for i in range(lanes) for at in (i, lanes + i)]
    places = ir.Constant(ir.VectorType(ir.IntType(32), 2 * lanes), order)
    return builder.bitcast(builder.shuffle_vector(halves, halves, places), ir.VectorType(ir.IntType(32), lanes))


def _paired(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    sixteen = ir.Constant(high.type, [16] * high.type.count)
    return builder.or_(low, builder.shl(high, sixteen))


# --- Tensors to tiles and back ----------------------------------------------------------------------------------------


@compiled
def place_of(source: Matrix, row: int) -> int:
    """The elements of a matrix before a row."""
    if source.page_size == 0:
        return row * source.row
    return source.pages[row // source.page_size] * source.page + row % source.page_size * source.row


def pack(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
    """Copy rows ``start`` to ``start + count`` of a matrix to a tile, padded with zeros to ``row_size``.

    In a tile of words, a word is two neighbours of a row.
    """
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(pack)
def _pack(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> Any:
    def numbers(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
        lanes, width, column, data = lanes_of(tile), source.width, source.column, source.data
        whole = width - width % lanes if column == 1 else 0
        for i in range(count):
            row, origin = at + i * row_size, place_of(source, start + i)
            for d in range(0, whole, lanes):
                store(tile, row + d, widen(tile, data, origin + d))
            for d in range(whole, width):
                tile[row + d] = widen_number(tile, data[origin + d * column])
            fill(tile, row + width, row_size - width, 0)

    def words(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
        lanes, width, column, data = lanes_of(tile), source.width, source.column, source.data
        pairs = width // 2
        whole = pairs - pairs % lanes if column == 1 else 0
        for i in range(count):
            row, origin = at + i * row_size, place_of(source, start + i)
            for w in range(0, whole, lanes):
                store(tile, row + w, widen(tile, data, origin + 2 * w))
            for w in range(whole, pairs):
                tile[row + w] = word_of(data[origin + 2 * w * column], data[origin + (2 * w + 1) * column])
            fill(tile, row + pairs, row_size - pairs, 0)
            if width % 2:
                tile[row + pairs] = data[origin + (width - 1) * column]

    return words if isinstance(tile.dtype, types.Integer) else numbers


@compiled
def word_of(low: Any, high: Any) -> Any:
    """Combine two 16-bit numbers into a word."""
    return np.int32(low) | (np.int32(high) << np.int32(16))


def pack_for_sum(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
    """Like :func:`pack`, for a matrix whose rows are summed over: a word is two neighbours of a column."""
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(pack_for_sum)
def _pack_for_sum(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> Any:
    def numbers(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
        pack(tile, at, row_size, source, start, count)

    def words(tile: Pointer, at: int, row_size: int, source: Matrix, start: int, count: int) -> None:
        lanes, width, column, data = lanes_of(tile), source.width, source.column, source.data
        whole = width - width % lanes if column == 1 else 0
        for i in range(0, count - 1, 2):
            row, first = at + i // 2 * row_size, place_of(source, start + i)
            second = place_of(source, start + i + 1)
            for d in range(0, whole, lanes):
                store(tile, row + d, pair_rows(tile, data, first + d, second + d))
            for d in range(whole, width):
                tile[row + d] = word_of(data[first + d * column], data[second + d * column])
            fill(tile, row + width, row_size - width, 0)
        if count % 2:
            row, last = at + count // 2 * row_size, place_of(source, start + count - 1)
            for d in range(width):
                tile[row + d] = data[last + d * column]
            fill(tile, row + width, row_size - width, 0)

    return words if isinstance(tile.dtype, types.Integer) else numbers


@compiled
def unpack(target: Matrix, start: int, tile: Pointer, at: int, row_size: int, count: int, spare: Pointer) -> None:
    """Copy rows of a tile to rows ``start`` to ``start + count`` of a matrix, rounded to its dtype.

    Args:
        target: the matrix.
        start: its first row.
        tile: a tile of float32 or float64.
        at: index of the tile's first row.
        row_size: row size of the tile.
        count: number of rows.
        spare: room for one register of numbers of the target's dtype.
    """
    lanes, width, column, data = lanes_of(tile), target.width, target.column, target.data
    whole = width - width % lanes if column == 1 else 0
    for i in range(count):
        row, origin = at + i * row_size, (start + i) * target.row
        for d in range(0, whole, lanes):
            narrow(data, origin + d, load(tile, row + d))
        for d in range(whole, width, lanes):
            narrow(spare, 0, load(tile, row + d))
            for e in range(min(lanes, width - d)):
                data[origin + (d + e) * column] = spare[e]
