"""Between the caller's tensors and the tiles that the kernels work on.

Tensors have any strides and one of four dtypes. NumPy has no bfloat16, and Numba no float16 on a CPU, so both travel as
their bits: bfloat16 as uint16, float16 as int16. Tiles are one-dimensional arrays whose rows are padded with zeros to
whole registers; they hold float32, float64, or, where the processor multiplies pairs of bfloat16, words of two:
``int32``.

What a function does hangs on these types alone, and is chosen when it is compiled.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from .compiling import Array, Codegen, chosen_by_types, compiled, intrinsic
from .llvm import BFloat, address_in, call, data_of, element_type, integer, load_at, store_at
from .simd import Vector, lanes_of, load, store, vector_type
from .target import TARGET

# --- Scratch memory ---------------------------------------------------------------------------------------------------


@compiled
def aligned(size: int, like: Array) -> Array:
    """An array of ``like``'s dtype that begins at a cache line; its contents are undefined."""
    line = 64 // like.itemsize
    memory = np.empty(size + line, like.dtype)
    skip = (-memory.ctypes.data % 64) // like.itemsize
    return memory[skip : skip + size]


@compiled
def padded(width: int, like: Array) -> int:
    """The next multiple of a register's lanes."""
    lanes: int = lanes_of(like)
    return (width + lanes - 1) // lanes * lanes


@intrinsic
def per_word(context: Any, tile: Any) -> tuple[Any, Codegen]:
    """Numbers in an element of a tile: 2 in one of words, 1 elsewhere. A constant."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return integer(2 if isinstance(sig.args[0].dtype, types.Integer) else 1)

    return types.intp(tile), codegen


@intrinsic
def in_place(context: Any, source: Any, tile: Any) -> tuple[Any, Codegen]:
    """Whether rows of a matrix can be used as a tile's as they are: the same numbers, in whole registers."""
    same = source.dtype == tile.dtype or (source.dtype == types.uint16 and tile.dtype == types.int32)
    numbers = 2 if source.dtype == types.uint16 else 1

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if not same:
            return ir.Constant(ir.IntType(1), 0)
        parts = context.make_array(sig.args[0])(context, builder, args[0])
        width = builder.extract_value(parts.shape, 1)
        row, column = (builder.extract_value(parts.strides, axis) for axis in range(2))
        size = sig.args[1].dtype.bitwidth // 8
        address = builder.ptrtoint(parts.data, ir.IntType(64))
        register = integer(TARGET.lanes(8 * size) * numbers)
        return functools.reduce(
            builder.and_,
            (
                builder.icmp_signed("==", column, integer(sig.args[0].dtype.bitwidth // 8)),
                builder.icmp_signed("==", builder.srem(width, register), integer(0)),
                builder.icmp_signed("==", builder.srem(row, integer(size)), integer(0)),
                builder.icmp_signed("==", builder.srem(address, integer(size)), integer(0)),
            ),
        )

    return types.boolean(source, tile), codegen


@intrinsic
def flat(context: Any, source: Any, tile: Any) -> tuple[Any, Codegen]:
    """A matrix as a one-dimensional array of the tile's type that begins at its first element.

    Only for a matrix that is :func:`in_place`. Its rows are ``strides[0]`` apart, and nothing guards its end.
    """
    result = types.Array(tile.dtype, 1, "C")

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        given = context.make_array(sig.args[0])(context, builder, args[0])
        array = context.make_array(result)(context, builder)
        size = integer(result.dtype.bitwidth // 8)
        data = builder.bitcast(given.data, array.data.type)
        shape, strides = (cgutils.pack_array(builder, [value]) for value in (integer(2**62 // 8), size))
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()  # noqa: SLF001  # Numba's own way

    return result(source, tile), codegen


@compiled
def wide(index: Any) -> Any:
    """An index as a 64-bit one, whatever the type that it was kept in."""
    return np.int64(index)


# --- Numbers of one dtype to another ----------------------------------------------------------------------------------


def _widened(builder: ir.IRBuilder, value: ir.Value, source: Any, to: ir.Type) -> ir.Value:
    """Numbers of a tensor, or a vector of them, as those of a tile."""
    if source in {types.float32, types.float64}:
        return value
    lanes = getattr(value.type, "count", None)

    def shaped(element: ir.Type) -> ir.Type:
        return element if lanes is None else ir.VectorType(element, lanes)

    if source == types.int16:
        return builder.fpext(builder.bitcast(value, shaped(ir.HalfType())), to)
    bits = builder.zext(value, shaped(ir.IntType(32)))
    sixteen = ir.Constant(bits.type, 16 if lanes is None else [16] * lanes)
    return builder.bitcast(builder.shl(bits, sixteen), to)


def _bfloat16_bits(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of float32, rounded to the nearest bfloat16 with ties to even, as 16-bit integers."""
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
    quiet = builder.or_(high, all_lanes(0x40))  # adding to a NaN's bits could make another number of it
    numbers = builder.fcmp_ordered("==", value, value)
    return builder.trunc(builder.select(numbers, rounded, quiet), ir.VectorType(ir.IntType(16), lanes))


@intrinsic
def widen(context: Any, tile: Any, source: Any, row: Any, column: Any) -> tuple[Any, Codegen]:
    """As many neighbours of a row as fit into a vector of the tile's type; the row has to be contiguous."""
    vector = Vector(tile.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        start = address_in(context, builder, sig.args[1], *args[1:4])
        given = ir.VectorType(element_type(sig.args[1].dtype), vector.lanes)
        if isinstance(tile.dtype, types.Integer):  # words of two
            return load_at(builder, start, integer(0), vector_type(vector))
        return _widened(builder, load_at(builder, start, integer(0), given), sig.args[1].dtype, vector_type(vector))

    return vector(tile, source, types.intp, types.intp), codegen


@intrinsic
def widen_number(context: Any, tile: Any, number: Any) -> tuple[Any, Codegen]:
    """One number of a tensor as a number of the tile."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _widened(builder, args[1], sig.args[1], element_type(sig.args[0].dtype))

    return tile.dtype(tile, number), codegen


@intrinsic
def narrow(context: Any, target: Any, row: Any, column: Any, vector: Any) -> tuple[Any, Codegen]:
    """Write a vector to neighbours of a contiguous row, rounded to its dtype."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        start = address_in(context, builder, sig.args[0], *args[:3])
        value, dtype = args[3], sig.args[0].dtype
        if dtype == types.int16:
            half, bits = (ir.VectorType(of, value.type.count) for of in (ir.HalfType(), ir.IntType(16)))
            value = builder.bitcast(builder.fptrunc(value, half), bits)
        elif dtype == types.uint16:
            value = _bfloat16_bits(builder, value)
        store_at(builder, value, start, integer(0))
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp, vector), codegen


@intrinsic
def pair_vectors(context: Any, words: Any, first: Any, second: Any) -> tuple[Any, Codegen]:
    """Two vectors of float32 as one of words: in each lane, the first in the low half and the second in the high."""
    vector = Vector(words.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if TARGET.round_two_to_bfloat16 is not None:
            return _rounded_in_pairs(builder, TARGET.round_two_to_bfloat16, *args[1:])
        low, high = (builder.zext(_bfloat16_bits(builder, value), vector_type(vector)) for value in args[1:])
        return _paired(builder, low, high)

    return vector(words, first, second), codegen


@intrinsic
def pair_rows(context: Any, words: Any, source: Any, row: Any, column: Any) -> tuple[Any, Codegen]:
    """Neighbours of two rows, ``row`` in the low halves of the words and the next one in the high."""
    vector = Vector(words.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, row, column = args[1:4]
        halves = ir.VectorType(ir.IntType(16), vector.lanes)
        low, high = (
            builder.zext(
                load_at(builder, address_in(context, builder, sig.args[1], array, at, column), integer(0), halves),
                vector_type(vector),
            )
            for at in (row, builder.add(row, integer(1)))
        )
        return _paired(builder, low, high)

    return vector(words, source, types.intp, types.intp), codegen


@intrinsic
def store_halves(context: Any, words: Any, index: Any, vector: Any) -> tuple[Any, Codegen]:
    """A vector of float32 to half as many words, from element ``index`` on: a word is two neighbouring lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        halves = _bfloat16_bits(builder, args[2])
        store_at(builder, halves, data_of(context, builder, sig.args[0], args[0]), args[1])
        return context.get_dummy_value()

    return types.void(words, types.intp, vector), codegen


def _rounded_in_pairs(builder: ir.IRBuilder, function: str, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors rounded by one instruction, and their numbers then brought side by side."""
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
def is_contiguous(source: Array) -> bool:
    """Whether the elements of each row are neighbours."""
    return bool(source.strides[1] == source.itemsize)


@compiled
def is_packed(source: Array) -> bool:
    """Whether the rows follow each other without a gap."""
    return bool(source.strides[0] == source.shape[1] * source.itemsize)


def pack(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
    """Rows ``start`` to ``start + count`` of a matrix to a tile, padded with zeros to ``row_size``.

    In a tile of words, a word is two neighbours of a row.
    """
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(pack)
def _pack(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> Any:
    def numbers(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
        lanes, width = lanes_of(tile), source.shape[1]
        whole = width - width % lanes if is_contiguous(source) else 0
        for i in range(count):
            row = at + i * row_size
            for d in range(0, whole, lanes):
                store(tile, row + d, widen(tile, source, start + i, d))
            for d in range(whole, width):
                tile[row + d] = widen_number(tile, source[start + i, d])
            for d in range(width, row_size):
                tile[row + d] = 0

    def words(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
        lanes, width = lanes_of(tile), source.shape[1]
        pairs = width // 2
        whole = pairs - pairs % lanes if is_contiguous(source) else 0
        for i in range(count):
            row = at + i * row_size
            for w in range(0, whole, lanes):
                store(tile, row + w, widen(tile, source, start + i, 2 * w))
            for w in range(whole, pairs):
                low, high = source[start + i, 2 * w], source[start + i, 2 * w + 1]
                tile[row + w] = np.int32(low) | (np.int32(high) << np.int32(16))
            for w in range(pairs, row_size):
                tile[row + w] = np.int32(source[start + i, 2 * w]) if 2 * w < width else np.int32(0)

    return words if isinstance(tile.dtype, types.Integer) else numbers


def pack_for_sum(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
    """The same for a matrix whose rows are summed over: in a tile of words, a word is two neighbours of a column."""
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(pack_for_sum)
def _pack_for_sum(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> Any:
    def numbers(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
        pack(tile, at, row_size, source, start, count)

    def words(tile: Array, at: int, row_size: int, source: Array, start: int, count: int) -> None:
        lanes, width = lanes_of(tile), source.shape[1]
        whole = width - width % lanes if is_contiguous(source) else 0
        for i in range(0, count - 1, 2):
            row = at + i // 2 * row_size
            for d in range(0, whole, lanes):
                store(tile, row + d, pair_rows(tile, source, start + i, d))
            for d in range(whole, width):
                low, high = source[start + i, d], source[start + i + 1, d]
                tile[row + d] = np.int32(low) | (np.int32(high) << np.int32(16))
            for d in range(width, row_size):
                tile[row + d] = 0
        if count % 2:
            row = at + count // 2 * row_size
            for d in range(row_size):
                tile[row + d] = np.int32(source[start + count - 1, d]) if d < width else np.int32(0)

    return words if isinstance(tile.dtype, types.Integer) else numbers


@compiled
def unpack(target: Array, start: int, tile: Array, at: int, row_size: int, count: int, spare: Array) -> None:
    """Rows of a tile to rows ``start`` to ``start + count`` of a matrix, rounded to its dtype.

    Args:
        target: (rows, width).
        start: as said.
        tile: of float32 or float64.
        at: where its first row begins.
        row_size: of the tile.
        count: of rows.
        spare: one register's numbers of the target's dtype, (1, lanes).
    """
    lanes, width = lanes_of(tile), target.shape[1]
    whole = width - width % lanes if is_contiguous(target) else 0
    for i in range(count):
        row = at + i * row_size
        for d in range(0, whole, lanes):
            narrow(target, start + i, d, load(tile, row + d))
        for d in range(whole, width, lanes):
            narrow(spare, 0, 0, load(tile, row + d))
            for e in range(min(lanes, width - d)):
                target[start + i, d + e] = spare[0, e]
