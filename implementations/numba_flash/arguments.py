"""A kernel's only argument: a block of 64-bit integers that holds or points to everything else.

So a single function, compiled once, starts every kernel on all threads, whatever its dtype (``scheduling.py``)::

    0    sizes: batch, heads_q, heads_kv, seqlen_q, seqlen_kv, head_dim, head_dim_v
    7    two numbers that describe how the work is divided, specific to each kernel
    9    an address: memory that all threads share
    10   rules: addresses of low, high, bias, sinks, scale, stretches and pages; then the bias' numbers for each head,
         where 0 is no bias, the runs of each row, the pages of a sequence, and the keys of a page, where 0 is no pages
    21   tensors, 5 words each: address, and strides in elements along batch, head, row and column
    then counters, which begin at 0

The rules, of int32 and float32, or int64 and float64 for float64:

- ``low``, ``high``: (batch, runs, seqlen_q), the first key of each run that a row sees, and the one past its last;
  empty runs come last.
- ``bias``: (heads_q, seqlen_q + seqlen_kv - 1 and a tile to spare), by query index - key index + seqlen_kv - 1.
- ``sinks``: (heads_q,); -inf is none.
- ``scale``: (4,): the factor of Q K^T, which is the case's scale or, before a cap, the scale divided by the softcap; 1;
  the case's scale; the softcap, or 0.
- ``stretches``: (batch, splits, 2), int64: the keys of each split of ``decode``, the first and the first beyond.
- ``pages``: (batch, pages of a sequence), int64: where each page of keys lies. K and V are (pages, heads_kv, keys of a
  page, dim) then, and are copied to tiles page by page.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from .language.compiling import Codegen, Number, Pointer, compiled, intrinsic

CUT, SHARED, RULES, TENSORS, WORDS = 7, 9, 10, 21, 5


class Dtypes(NamedTuple):
    """The dtypes that a kernel is compiled for, as NumPy types: Numba keys its cache by them."""

    tensors: type[Any]
    """bfloat16 is passed as uint16 and float16 as int16, as NumPy lacks the former and Numba the latter."""
    index: type[Any]
    """Integer type of the keys' positions in the rules."""
    words: type[Any]
    """Type of the operands of products; int32 for pairs of bfloat16."""
    number: type[Any]
    """Type in which products are summed."""


class Sizes(NamedTuple):
    """Sizes of a case's tensors."""

    batch: int
    heads_q: int
    heads_kv: int
    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    head_dim_v: int


class Cut(NamedTuple):
    """The division of a call's work.

    Attributes:
        numbers: the block's two numbers.
        tasks: number of tasks; more threads would have nothing to do.
        counters: number of counters.
        shared: size of the memory that all threads share, in numbers of the LSE's type.
    """

    numbers: tuple[int, int]
    tasks: int
    counters: int
    shared: int = 0


class Rules(NamedTuple):
    """Mask, bias, sinks and scale of the scores: ``low`` and ``high`` for one batch element, the others for all."""

    low: Pointer
    high: Pointer
    bias: Pointer
    sinks: Pointer
    scale: Pointer
    stretches: Pointer
    pages: Pointer
    bias_row: int
    runs: int
    pages_row: int
    page_size: int


class Tensor(NamedTuple):
    """A tensor of four dimensions, with any strides."""

    data: Pointer
    batch: int
    head: int
    row: int
    column: int


class Matrix(NamedTuple):
    """Rows of one head: ``width`` numbers each, ``column`` elements apart, and ``row`` elements from row to row.

    Where ``page_size`` is not 0, so many rows are a page, and page ``i`` begins ``pages[i] * page`` elements behind
    ``data``.
    """

    data: Pointer
    row: int
    column: int
    width: int
    page_size: int
    page: int
    pages: Pointer


@intrinsic
def pointer(context: Any, address: Any, kind: Any) -> tuple[Any, Codegen]:
    """Convert an address to a pointer to numbers of a type."""
    result = types.CPointer(kind.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(types.int64, kind), codegen


@intrinsic
def moved(context: Any, start: Any, count: Any) -> tuple[Any, Codegen]:
    """Return a pointer to the element with index ``count``."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.gep(args[0], [args[1]])

    return start(start, types.intp), codegen


@compiled
def sizes_in(block: Pointer) -> Sizes:
    """Return the sizes at the start of the block."""
    return Sizes(block[0], block[1], block[2], block[3], block[4], block[5], block[6])


@compiled
def rules_in(block: Pointer, index: Number, number: Number) -> Rules:
    """Return the rules of the batch's first element."""
    return Rules(
        pointer(block[RULES], index), pointer(block[RULES + 1], index), pointer(block[RULES + 2], number),
        pointer(block[RULES + 3], number), pointer(block[RULES + 4], number), pointer(block[RULES + 5], np.int64),
        pointer(block[RULES + 6], np.int64), block[RULES + 7], block[RULES + 8], block[RULES + 9], block[RULES + 10],
    )  # fmt: skip


@compiled
def rules_of(rules: Rules, b: int, seqlen_q: int) -> Rules:
    """Return the rules of batch element ``b``."""
    at = b * rules.runs * seqlen_q
    return Rules(
        moved(rules.low, at), moved(rules.high, at), rules.bias, rules.sinks, rules.scale, rules.stretches,
        moved(rules.pages, b * rules.pages_row), rules.bias_row, rules.runs, rules.pages_row, rules.page_size,
    )  # fmt: skip


@compiled
def tensor_in(block: Pointer, index: int, kind: Number) -> Tensor:
    """Return the tensor with number ``index``."""
    at = TENSORS + WORDS * index
    return Tensor(pointer(block[at], kind), block[at + 1], block[at + 2], block[at + 3], block[at + 4])


@compiled
def unpaged(data: Pointer, row: int, column: int, width: int) -> Matrix:
    """A matrix whose rows lie at one distance from each other."""
    return Matrix(data, row, column, width, 0, 0, pointer(0, np.int64))


@compiled
def matrix_of(tensor: Tensor, b: int, h: int, width: int) -> Matrix:
    """One head of a tensor."""
    return unpaged(moved(tensor.data, b * tensor.batch + h * tensor.head), tensor.row, tensor.column, width)


@compiled
def keys_of(tensor: Tensor, rules: Rules, b: int, h: int, width: int) -> Matrix:
    """One head of K or V, which may lie in pages; ``rules`` are those of batch element ``b``."""
    if rules.page_size == 0:
        return matrix_of(tensor, b, h, width)
    data = moved(tensor.data, h * tensor.head)
    return Matrix(data, tensor.row, tensor.column, width, rules.page_size, tensor.batch, rules.pages)
