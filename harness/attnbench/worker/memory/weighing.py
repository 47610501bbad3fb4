"""Peak memory of one call on the CPU, native allocations included, by the kernel's high-water mark.

Method: free what the heap holds back (``malloc_trim``), wait while threads still give back what an earlier call had
(XLA does so after its result is ready), read the resident size, reset the high-water mark by writing ``5`` to
``/proc/self/clear_refs``, call, read ``VmHWM``. The peak is the difference. Samplers miss short peaks and tracemalloc
is blind to native allocations; this mark is neither. What the call's child processes touched is added
(:mod:`attnbench.worker.memory.children`). Only on Linux.

While the peak is measured, two habits of the allocator are off, so that the mark shows what is alive: glibc keeps
freed blocks of up to 32 MiB for itself, and the kernel rounds up to huge pages of 2 MiB. Timed calls have both.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.worker.memory.children import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHOD = "high-water mark of the resident set, reset before the call, and what its child processes touched"
_PR_SET_THP_DISABLE = 41
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_GIVEN_BACK_AT_ONCE = 64 * 2**10
_SETTLED_THRESHOLD = 32 * 2**20
_LARGEST_HOLE = 2**30
_READINGS = 2
_STILL_S, _STILL_LOOKS = 0.005, 2
_SETTLED_WITHIN_S = 10.0


class UnsettledError(Exception):
    """The resident size kept falling before a call, so that nothing can be read from it."""


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
        reset_high_water_mark()
    except OSError as error:
        return f"/proc/self/clear_refs cannot be written: {error.strerror}"
    return None


def peak_of(call: Callable[[], object], *, set_up: Callable[[], object] = lambda: None) -> Peak:
    """Measure the peak of one call: the larger of two readings, because the kernel's counter lags behind.

    The result of a call is held until its peak is read. ``set_up`` runs before each reading and is not counted. The
    thread is the one that makes all calls, so that nothing tells this one from the others.

    Raises:
        UnsettledError: threads were still giving back memory of an earlier call after ten seconds.
    """
    libc = ctypes.CDLL(None)
    with _on_one_processor(), _giving_back_at_once(libc):
        return _readings(call, libc, set_up)


def peak_of_one(call: Callable[[], object]) -> int:
    """One reading of a call's peak, in bytes, where another process says how often there is one."""
    libc = ctypes.CDLL(None)
    with _on_one_processor(), _giving_back_at_once(libc):
        return _reading(call, libc)


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Keep all threads of this process on one processor: the kernel's counter lags behind on each one by itself."""
    usable = os.sched_getaffinity(0)
    _move_threads({min(usable)})
    try:
        yield
    finally:
        _move_threads(usable)


def _move_threads(processors: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), processors)


def _readings(call: Callable[[], object], libc: ctypes.CDLL, set_up: Callable[[], object]) -> Peak:
    _reading(lambda: None, libc)  # the reading's own objects exist from here on
    _reading(call, libc, set_up)  # and so does what libraries set up once
    resolution = max(_reading(lambda: None, libc) for _ in range(_READINGS))
    peak = max(_reading(call, libc, set_up) for _ in range(_READINGS))
    return Peak(peak_bytes=peak, resolution_bytes=max(resolution, _counter_lag_bytes()))


@contextlib.contextmanager
def _giving_back_at_once(libc: ctypes.CDLL) -> Iterator[None]:
    """Have large blocks mapped when they are allocated, and unmapped when they are freed."""
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    _keep_freed_blocks_below(_GIVEN_BACK_AT_ONCE, libc)
    _give_back(libc)
    holes = _take_holes(libc)
    try:
        yield
    finally:
        for hole in holes:
            libc.free(ctypes.c_void_p(hole))
        libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)
        _keep_freed_blocks_below(_SETTLED_THRESHOLD, libc)


def _take_holes(libc: ctypes.CDLL) -> list[int]:
    """Take what earlier calls left free in this thread's heap, untouched, where it is as large as what is mapped.

    Otherwise a call would fill these holes, and what it frees there stays resident.
    """
    if not hasattr(libc, "malloc_trim"):  # not glibc
        return []
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    taken: list[int] = []
    size = _LARGEST_HOLE
    while size >= _GIVEN_BACK_AT_ONCE:
        block = libc.malloc(size)
        if block is None or _is_mapped(block):
            libc.free(ctypes.c_void_p(block))
            size //= 2
        else:
            taken.append(block)
    return taken


def _is_mapped(block: int) -> bool:
    """Whether glibc mapped a block by itself: the second bit of the size in front of it (malloc.c, IS_MMAPPED)."""
    before = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t))
    return bool(before.value & 2)


def _counter_lag_bytes() -> int:
    """How far the kernel's count of resident pages may lag behind on one processor.

    Linux adds a processor's own count to the shared one in batches of 32 pages, or two for each processor
    (lib/percpu_counter.c, compute_batch_value).
    """
    return max(32, 2 * (os.cpu_count() or 1)) * resource.getpagesize()


def prepare_allocator() -> None:
    """Put glibc at once into the state that it reaches by itself when large blocks are freed (mallopt(3)).

    Otherwise a call's time would depend on how large the cells were that the same worker ran before.
    """
    _keep_freed_blocks_below(_SETTLED_THRESHOLD, ctypes.CDLL(None))


def _keep_freed_blocks_below(size: int, libc: ctypes.CDLL) -> None:
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, size)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * size)


def _reading(call: Callable[[], object], libc: ctypes.CDLL, set_up: Callable[[], object] = lambda: None) -> int:
    set_up()
    _give_back(libc)
    _wait_until_nothing_is_given_back()
    others = children()
    reset_high_water_mark()
    before = resident_bytes()
    result = call()
    peak = high_water_mark_bytes()
    of_others = others.peak_since()
    del result
    return max(0, peak - before) + of_others


def settled_bytes() -> int | None:
    """The resident size once what is free was given back, or ``None`` where it cannot be told (not on Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    _give_back(ctypes.CDLL(None))
    return resident_bytes()


def _give_back(libc: ctypes.CDLL) -> None:
    gc.collect()
    if hasattr(libc, "malloc_trim"):  # glibc; others give memory back by themselves
        libc.malloc_trim(0)


def _wait_until_nothing_is_given_back() -> None:
    """Until the resident size no longer falls: what is freed during the call would hide as much of its peak."""
    ends = time.monotonic() + _SETTLED_WITHIN_S
    lag = _counter_lag_bytes()
    size, still = resident_bytes(), 0
    while time.monotonic() < ends:
        time.sleep(_STILL_S)
        earlier, size = size, resident_bytes()
        still = still + 1 if size > earlier - lag else 0
        if still == _STILL_LOOKS:
            return
    raise UnsettledError(f"memory of an earlier call was still being given back after {_SETTLED_WITHIN_S:g} s")


def reset_high_water_mark() -> None:
    """Let the mark begin again from what is resident."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_bytes() -> int:
    """Resident size as the kernel keeps it at hand (proc(5), stat, field 24: rss).

    Not VmRSS: newer kernels add up all processors' own counts for that, and not for the mark.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * resource.getpagesize()


def high_water_mark_bytes() -> int:
    """The mark, as the kernel keeps it at hand (getrusage(2)); at most VmHWM, for the former outlives exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return min([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *marks]) * 1024
