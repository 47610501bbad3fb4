"""Threads and processors of a worker: pinned, equal for all implementations, and recorded."""

from __future__ import annotations

import os

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables of a worker: this process's own, with the threads set for every library that asks.

    Idle OpenMP threads sleep instead of spinning: other workers wait beside the measured one. A parallel region
    then begins a few microseconds later than with spinning threads, equally for every implementation.
    """
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "OMP_WAIT_POLICY": "passive",
        "OMP_DYNAMIC": "false",
        "MKL_DYNAMIC": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


def usable_processors() -> list[int]:
    """Numbers of the processors that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def default_threads() -> int:
    """One thread for each physical core that this process may use."""
    usable = len(usable_processors())
    import psutil

    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count(logical=True)
    if not physical or not logical:
        return usable
    return max(1, min(physical, usable * physical // logical))


def pin(threads: int) -> None:
    """Keep this process on the first ``threads`` usable processors; where the system cannot, nothing happens."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable_processors()[:threads])
