"""Peak memory of one call on the CPU, including native allocations, from the kernel's high-water mark.

Method: release what the heap caches (``malloc_trim``), wait while threads still release memory of an earlier call (XLA
does so after its result is ready), read the resident size, reset the high-water mark by writing ``5`` to
``/proc/self/clear_refs``, call, read ``VmHWM``. The peak is the difference. Unlike samplers, the mark does not miss
short peaks, and unlike tracemalloc, it includes native allocations. The memory of the call's child processes is added
(:mod:`attnbench.worker.memory.children`). Only on Linux.

While the peak is measured, two behaviours are off, so that the mark shows live memory: glibc caches freed blocks of up
to 32 MiB, and the kernel rounds up to huge pages of 2 MiB. Timed calls have both.
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
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_GIVEN_BACK_AT_ONCE = 64 * 2**10
_SETTLED_THRESHOLD = 32 * 2**20
_LARGEST_HOLE = 2**30
_READINGS = 2
_STILL_S, _STILL_LOOKS = 0.005, 2
_SETTLED_WITHIN_S = 10.0


class UnsettledError(Exception):
    """The resident size kept falling before a call, so that it cannot be measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """The highest footprint of one call above what was allocated before, in bytes, and the reading of an empty call."""

    peak_bytes: int
    resolution_bytes: int


def unsupported() -> str | None:
    """Return why the peak cannot be measured on this machine, or ``None``."""
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
    call is made in the same thread as all others, so that it cannot recognise that it is measured.

    Raises:
        UnsettledError: threads were still releasing memory of an earlier call after ten seconds.
    """
    libc = ctypes.CDLL(None)
    with _on_one_processor(), _giving_back_at_once(libc):
        return _readings(call, libc, set_up)


def peak_of_one(call: Callable[[], object]) -> int:
    """Return one reading of a call's peak in bytes, for a process in which another one determines their number."""
    libc = ctypes.CDLL(None)
    with _on_one_processor(), _giving_back_at_once(libc):
        return _reading(call, libc)


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Keep all threads of this process on one processor, since the kernel's counter lags behind on each separately."""
    usable = os.sched_getaffinity(0)
    _move_threads({min(usable)})
    try:
        yield
    finally:
        _move_threads(usable)


def _move_threads(processors: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(int(task.name), processors)


def _readings(call: Callable[[], object], libc: ctypes.CDLL, set_up: Callable[[], object]) -> Peak:
    _reading(lambda: None, libc)  # allocates the objects of the reading itself
    _reading(call, libc, set_up)  # allocates what libraries set up once
    resolution = max(_reading(lambda: None, libc) for _ in range(_READINGS))
    peak = max(_reading(call, libc, set_up) for _ in range(_READINGS))
    return Peak(peak_bytes=peak, resolution_bytes=max(resolution, _counter_lag_bytes()))


@contextlib.contextmanager
def _giving_back_at_once(libc: ctypes.CDLL) -> Iterator[None]:
    """Have large blocks mapped when they are allocated, and unmapped when they are freed."""
    was_disabled = int(libc.prctl(_PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    _keep_freed_blocks_below(_GIVEN_BACK_AT_ONCE, libc)
    _give_back(libc)
    holes = _take_holes(libc)
    try:
        yield
    finally:
        for hole in holes:
            libc.free(ctypes.c_void_p(hole))
        libc.prctl(_PR_SET_THP_DISABLE, was_disabled, 0, 0, 0)
        _keep_freed_blocks_below(_SETTLED_THRESHOLD, libc)


def _take_holes(libc: ctypes.CDLL) -> list[int]:
    """Allocate the free blocks of this thread's heap that are as large as a mapped block, without touching them.

    Otherwise a call would use these blocks, and memory that it frees there would stay resident.
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
    """Whether glibc mapped a block separately: the second bit of the size in front of it (malloc.c, IS_MMAPPED)."""
    before = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t))
    return bool(before.value & 2)


def _counter_lag_bytes() -> int:
    """Return how far the kernel's count of resident pages may lag behind on one processor.

    Linux adds a processor's own count to the shared one in batches of 32 pages, or two for each processor
    (lib/percpu_counter.c, compute_batch_value).
    """
    return max(32, 2 * (os.cpu_count() or 1)) * resource.getpagesize()


def prepare_allocator() -> None:
    """Put glibc into the state that it reaches by itself once large blocks are freed (mallopt(3)).

    Otherwise a call's time would depend on the sizes of the cells that the worker ran before.
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
    """Return the resident size after free memory was released, or ``None`` if it is unknown (not on Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    _give_back(ctypes.CDLL(None))
    return resident_bytes()


def _give_back(libc: ctypes.CDLL) -> None:
    gc.collect()
    if hasattr(libc, "malloc_trim"):  # glibc; other allocators release memory by themselves
        libc.malloc_trim(0)


def _wait_until_nothing_is_given_back() -> None:
    """Wait until the resident size no longer falls: memory freed during the call would hide part of its peak."""
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
    """Reset the mark to the resident size."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_bytes() -> int:
    """Return the resident size from the kernel's fast counter (proc(5), stat, field 24: rss).

    VmRSS is not used: newer kernels sum all processors' counts for it, but not for the mark.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * resource.getpagesize()


def high_water_mark_bytes() -> int:
    """Return the mark from the kernel's fast counter (getrusage(2)), but at most VmHWM, as the former outlives exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return min([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *marks]) * 1024
