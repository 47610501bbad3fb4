"""Peak memory of one call on the CPU, native allocations included, by the kernel's high-water mark.

Method: free what the heap holds back (``malloc_trim``), read the resident size, reset the high-water mark by writing
``5`` to ``/proc/self/clear_refs``, call, read ``VmHWM``. The peak is the difference. Samplers miss short peaks and
tracemalloc is blind to native allocations; this mark is neither. Only on Linux.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

METHOD = "high-water mark of the resident set, reset before the call"
_PR_SET_THP_DISABLE = 41
_READINGS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """Highest footprint of one call above what was allocated before, in bytes, and what an empty call reads."""

    peak_bytes: int
    resolution_bytes: int


def unsupported() -> str | None:
    """Why the peak cannot be measured on this machine, or ``None``."""
    if not sys.platform.startswith("linux"):
        return "the high-water mark can be reset on Linux only"
    try:
        _reset_high_water_mark()
    except OSError as error:
        return f"/proc/self/clear_refs cannot be written: {error.strerror}"
    return None


def peak_of(call: Callable[[], object], *, set_up: Callable[[], object] | None = None) -> Peak:
    """Measure the peak of one call: the least of three readings, because whatever else happens only adds.

    The result of a call is held until its peak is read. ``set_up`` runs before each reading and is not counted.
    """
    libc = ctypes.CDLL(None)
    # Transparent huge pages would round every buffer up to 2 MiB; off for these calls, and on again for timed ones.
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        _reading(lambda: None, libc, None)  # the reading's own objects exist from here on
        resolution = max(_reading(lambda: None, libc, None) for _ in range(_READINGS))
        peak = min(_reading(call, libc, set_up) for _ in range(_READINGS))
    finally:
        libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)
    return Peak(peak_bytes=peak, resolution_bytes=resolution)


def _reading(call: Callable[[], object], libc: ctypes.CDLL, set_up: Callable[[], object] | None) -> int:
    if set_up is not None:
        set_up()
    gc.collect()
    if hasattr(libc, "malloc_trim"):  # glibc; others give memory back by themselves
        libc.malloc_trim(0)
    _reset_high_water_mark()
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    del result
    return max(0, peak - before)


def _reset_high_water_mark() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
