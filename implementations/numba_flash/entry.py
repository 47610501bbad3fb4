"""The interface of the package: its four kernels, compiled for a dtype, and their calls.

A kernel takes a block of integers, laid out as in ``arguments.py``. Its tensors:

- ``forward`` and ``decode``: Q, K, V, the output, the LSE.
- ``decode_int8``: Q, K, V, the scales of K and of V, (batch, heads_kv, seqlen_kv, 1), the output, the LSE.
- ``backward``: dO, Q, K, V, the output, dQ, dK, dV, the LSE.

Q is (batch, heads_q, seqlen_q, head_dim), K and V (batch, heads_kv, seqlen_kv, head_dim or head_dim_v); ``forward`` and
``decode`` take pages, too, (pages, heads_kv, page_size, ...). Gradients have the shapes of what they are of, and the
LSE, in natural logarithms, is (batch, heads_q, seqlen_q).
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from .arguments import SHARED, TENSORS, WORDS, Cut, Dtypes, Sizes
from .backward import backward_cut, backward_for
from .decode import QUERIES, SPLIT, decode_cut, decode_for
from .forward import forward_cut, forward_for
from .language.compiling import kept, named
from .language.target import TARGET
from .language.threads import Threads
from .quantised import decode_int8_cut, decode_int8_for
from .softmax import TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case

__all__ = ["QUERIES", "SPLIT", "TARGET", "TILE", "Call", "dtypes_of", "kernel"]

LOW, BIAS, STRETCHES, PAGES = 0, 2, 5, 6  # their places among the rules
WORTH_A_THREAD = 2**19  # multiply-adds; with fewer, a helper costs what it saves

KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Cut]]] = {
    "forward": (forward_for, forward_cut),
    "backward": (backward_for, backward_cut),
    "decode": (decode_for, decode_cut),
    "decode_int8": (decode_int8_for, decode_int8_cut),
}
"""For each kernel: the function that creates it, and the one that divides its work."""

BITS = {"float64": np.float64, "float32": np.float32, "float16": np.int16, "bfloat16": np.uint16}


def dtypes_of(dtype: str) -> Dtypes:
    """Return the types that a dtype's kernels are compiled for.

    Raises:
        KeyError: for a dtype without kernels.
    """
    if dtype == "float64":
        return Dtypes(np.float64, np.int64, np.float64, np.float64)
    pairs = dtype == "bfloat16" and TARGET.bfloat16_dot is not None  # otherwise they are loaded as float32
    return Dtypes(BITS[dtype], np.int32, np.int32 if pairs else np.float32, np.float32)


@functools.cache
def kernel(name: str, dtype: str) -> int:
    """Return the address of a kernel for a dtype; compiled code is cached on disk.

    One specialisation serves all strides, sizes, masks and score modifications.

    Raises:
        KeyError: for a dtype without kernels.
    """
    # Numba's cache checks the file of the cached function, but not those of its callees. It also checks the values
    # that the function closes over: here a checksum of all files, so that a change in any of them recompiles.
    sources = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py"))))
    source, _ = KERNELS[name]
    # Each dtype has its own cache files: Numba numbers the files of one name, and two processes that compile different
    # dtypes at the same time would write the same number.
    return kept(named(source(sources, dtypes_of(dtype)), f"{name}_of_{dtype}"))


class Call:
    """A kernel with the arguments that are the same in all of its calls.

    Args:
        name: of the kernel.
        case: to be computed.
        rules: low, high, bias, sinks, scale, stretches and pages, as ``arguments.py`` tells; referred to.
        threads: at most.
    """

    def __init__(self, name: str, case: Case, rules: Sequence[NDArray[Any]], threads: int) -> None:
        sizes = Sizes(
            case.batch, case.heads_q, case.heads_kv, case.seqlen_q, case.seqlen_kv, case.head_dim, case.head_dim_v
        )
        cut: Cut = KERNELS[name][1](sizes, dtypes_of(case.dtype), threads, rules[STRETCHES].shape[1])
        self._rules = rules
        self._before = (*sizes, *cut.numbers, 0, *(rule.ctypes.data for rule in rules))
        self._before += (rules[BIAS].shape[1], rules[LOW].shape[1], rules[PAGES].shape[1], case.page_size or 0)
        self._counters, self._shared = (0,) * cut.counters, cut.shared
        self._laid: tuple[list[tuple[int, ...]], array[int]] = [], array("q")
        # All threads or one: OpenMP ends threads that a smaller team does not need, and recreates them for the next.
        self.threads = threads if cut.tasks > 1 and work_of(sizes) >= WORTH_A_THREAD else 1
        self._kernel = kernel(name, case.dtype)
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self._kernel)

    def start(self, lse: Tensor, *tensors: Tensor) -> None:
        """Run the kernel; the other tensors are in the kernel's order."""
        tensors = (*tensors, lse)
        strides, laid = self._laid
        if [*map(Tensor.stride, tensors)] != strides:
            strides, laid = self._laid = self._lay(tensors)
        block = laid[:]  # each call has its own block, as it counts tasks
        at = TENSORS
        for address in map(Tensor.data_ptr, tensors):
            block[at] = address
            at += WORDS
        if self._shared:
            shared = lse.new_empty(self._shared)  # lives until the call is over
            block[SHARED] = shared.data_ptr()
        begin, _ = block.buffer_info()
        if self.threads == 1:
            self._alone(begin)
        else:
            threads().start(self._kernel, begin, self.threads)

    def _lay(self, tensors: Sequence[Tensor]) -> tuple[list[tuple[int, ...]], array[int]]:
        """Return the strides of the tensors, and a block for such tensors without their addresses."""
        strides = [tensor.stride() for tensor in tensors]
        words = (word for stride in strides for word in (0, *(stride if len(stride) == 4 else (*stride, 0))))
        return strides, array("q", (*self._before, *words, *self._counters))


def work_of(sizes: Sizes) -> int:
    """Return the multiply-adds of the two products, without regard to the mask."""
    return sizes.batch * sizes.heads_q * sizes.seqlen_q * sizes.seqlen_kv * (sizes.head_dim + sizes.head_dim_v)


@functools.cache
def threads() -> Threads:
    """Return the threads of this process."""
    return Threads()
