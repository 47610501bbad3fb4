"""Threads and processors of a worker: pinned, equal for all implementations, and recorded."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.machine.caches import cache_variables
from attnbench.machine.hardware.cgroup import processor_limit
from attnbench.machine.hardware.sysfile import read, read_integer

if TYPE_CHECKING:
    from collections.abc import Callable

# Taken before any plug-in is imported: one that replaces it changes nothing here.
_affinity: Callable[[int], set[int]] = getattr(os, "sched_getaffinity", lambda _pid: set())
_TASKS = Path("/proc/self/task")
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables of a worker: this process's own, with the threads set for every library that asks.

    Idle threads of OpenMP and OpenBLAS sleep instead of spinning (passive waiting): other workers stand by beside the
    measured one, and a spinning team would burn the processors that it is measured on. The price is that a parallel
    region begins some microseconds later, because its threads must be woken. Every implementation and the measured
    peaks pay it alike for each region, so an implementation of many small parallel regions pays more than it would
    while spinning.

    CUDA counts devices in the order of their bus addresses, as NVML does, unless the user says otherwise.
    """
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **os.environ,
        **cache_variables(),
        **thread_variables(threads),
        "OMP_WAIT_POLICY": "passive",
        # The runtimes' own variables would win over the policy where a user has set them.
        "KMP_BLOCKTIME": "0",
        "GOMP_SPINCOUNT": "0",
        "OPENBLAS_THREAD_TIMEOUT": "4",
        "OMP_DYNAMIC": "false",
        "MKL_DYNAMIC": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


def thread_variables(threads: int) -> dict[str, str]:
    """The variables by which libraries learn how many threads they may have."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def usable_processors() -> list[int]:
    """Numbers of the processors that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def processors_of_threads() -> frozenset[int]:
    """Numbers of the processors that the threads of this process may use, all of them together. Only on Linux."""
    found: set[int] = set()
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            found |= _affinity(int(task.name))
    return frozenset(found)


def cores_first(processors: list[int], root: Path = Path("/")) -> list[int]:
    """The same processors in the order in which threads should get them.

    First one processor of each physical core, then their hyper-threads; within these one package after the other, so
    that few threads share a cache and a memory controller. Where the system does not tell, the order stays.
    """
    taken: dict[str, int] = {}
    places = []
    for processor in processors:
        core = _core(processor, root) or str(processor)
        taken[core] = taken.get(core, -1) + 1
        package = read_integer(_topology(processor, root) / "physical_package_id") or 0
        places.append((taken[core], package, processor))
    return [processor for _, _, processor in sorted(places)]


def default_threads(root: Path = Path("/")) -> int:
    """One thread for each physical core that this process may use, and no more than a container's quota of time."""
    cores = _usable_cores(usable_processors(), root)
    quota = processor_limit(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def pin(threads: int) -> None:
    """Keep this process on ``threads`` of the usable processors, each on a core of its own while there are enough.

    Only Linux lets a process choose; elsewhere nothing happens.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores_first(usable_processors())[:threads])


def pin_rank(rank: int, ranks: int, threads: int) -> None:
    """Like :func:`pin`, for one of several processes: it gets its share of the processors that all of them have.

    Where there are fewer processors than ranks, some share one.
    """
    pin(threads)
    given, share = cores_first(usable_processors()), threads_of_rank(ranks, threads)
    mine = {given[(rank * share + number) % len(given)] for number in range(share)}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, mine)


def threads_of_rank(ranks: int, threads: int) -> int:
    """How many threads each of several ranks has, which share so many: one at least."""
    return max(1, threads // ranks)


def _usable_cores(processors: list[int], root: Path) -> int:
    cores = [_core(processor, root) for processor in processors]
    if all(cores):
        return len(set(cores))
    import psutil

    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count(logical=True)
    if not physical or not logical:
        return len(processors)
    return max(1, min(physical, len(processors) * physical // logical))


def _core(processor: int, root: Path) -> str | None:
    """Names the physical core of a processor by the list of its hyper-threads."""
    return read(_topology(processor, root) / "thread_siblings_list")


def _topology(processor: int, root: Path) -> Path:
    return root / f"sys/devices/system/cpu/cpu{processor}/topology"
