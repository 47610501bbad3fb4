"""The memory limit of a cell, set by the worker on itself: the kernel then refuses what goes beyond."""

from __future__ import annotations

import sys
from pathlib import Path

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
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _data_bytes() -> int:
    """Private writable memory of this process (VmData), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")
