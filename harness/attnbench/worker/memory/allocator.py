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
    """Limit what this process may allocate in addition to what it holds now; ``None`` lifts the limit.

    RLIMIT_DATA counts private writable memory, mapped or on the heap, but not memory that is only reserved, so it
    limits what libraries really use (setrlimit(2)). Only on Linux; elsewhere the parent watches the resident size.
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
    """Whether an exception of any type means that memory was refused; libraries do not share one type."""
    return isinstance(error, MemoryError) or any(words in message_of(error) for words in _OUT_OF_MEMORY)


def _data_bytes() -> int:
    """Return the private writable memory of this process (VmData) in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill fresh memory of this process with NaN within the block, so that unwritten outputs are detected.

    With ``M_PERTURB``, glibc fills the memory that it hands out with the complement of the value's low byte
    (mallopt(3)). The value 256 therefore enables filling with 0xFF, which is NaN in every floating-point type here.
    Blocks of a kilobyte or less may come from a thread's cache, which is not filled. Other allocators are unchanged.
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
