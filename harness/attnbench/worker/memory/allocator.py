"""The allocator of a worker's process: its limit, and the contents of fresh memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.untrusted.exceptions import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_M_PERTURB = -6
_ALL_BITS_SET = 0x100
_OFF = 0
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Unable to allocate",
    "std::bad_alloc",
    "Cannot allocate memory",
)


def allow(extra_bytes: int | None) -> None:
    """Limit what this process may allocate above what it holds now; ``None`` lifts the limit.

    RLIMIT_DATA counts private writable memory, mapped or on the heap, and not what is only reserved, so that it
    bounds what libraries really take (setrlimit(2)). Only on Linux; elsewhere the parent watches the resident size.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if extra_bytes is None else _data_bytes() + extra_bytes
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was refused, whatever its type: libraries do not agree on one."""
    return isinstance(error, MemoryError) or any(words in message_of(error) for words in _OUT_OF_MEMORY)


def _data_bytes() -> int:
    """Private writable memory of this process (VmData), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Until the end of the block, fresh memory of this process is full of NaN, so that unwritten outputs show.

    glibc fills what it hands out where ``M_PERTURB`` is set (mallopt(3)): with the complement of the value's low byte.
    The value 256 is therefore on, and its complement is 0xFF, which is NaN in every floating-point type here. Blocks of
    a kilobyte or less may come from a thread's own cache, which is not filled. Other allocators are left alone.
    """
    libc = ctypes.CDLL(None)
    has_it = hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")
    if has_it:
        libc.mallopt(_M_PERTURB, _ALL_BITS_SET)
    try:
        yield
    finally:
        if has_it:
            libc.mallopt(_M_PERTURB, _OFF)
