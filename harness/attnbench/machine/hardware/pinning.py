"""Threads and processors of a worker: pinned, and the same for all implementations."""

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

# Bound before any plug-in is imported, so that a plug-in cannot replace it.
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
    """Return the environment variables of a worker: this process's own, with the thread count set for every library.

    Idle threads of OpenMP and OpenBLAS sleep instead of spinning (passive waiting): other workers stand by next to the
    measured one, and their spinning threads would take its processors. As a cost, a parallel region begins some
    microseconds later, because its threads must be woken. This applies to every implementation and to the measured
    peaks, so an implementation with many small parallel regions is slower than it would be with spinning threads.

    CUDA enumerates devices by bus address, as NVML does, unless the user has set another order.
    """
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **os.environ,
        **cache_variables(),
        **thread_variables(threads),
        "OMP_WAIT_POLICY": "passive",
        # The runtimes' own variables, if the user has set them, take precedence over the policy.
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
    """Return the variables that set the number of threads of libraries."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def usable_processors() -> list[int]:
    """Return the sorted numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def processors_of_threads() -> frozenset[int]:
    """Return the numbers of all processors that any thread of this process may use; empty except on Linux."""
    found: set[int] = set()
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            found |= _affinity(int(task.name))
    return frozenset(found)


def cores_first(processors: list[int], root: Path = Path("/")) -> list[int]:
    """Sort processors in the order in which threads should use them.

    One processor of each physical core comes first, then their hyper-threads, both package by package, so that few
    threads share a cache and a memory controller. The order is kept if the topology is unknown.
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
    """Return one thread per usable physical core, but no more than a container's limit in processors."""
    cores = _usable_cores(usable_processors(), root)
    quota = processor_limit(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def pin(threads: int) -> None:
    """Restrict this process to ``threads`` of the usable processors, on different cores as long as there are enough.

    Does nothing except on Linux.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores_first(usable_processors())[:threads])


def pin_rank(rank: int, ranks: int, threads: int) -> None:
    """Restrict one of several processes, which share ``threads`` processors, to its part of them.

    With fewer processors than ranks, some ranks share a processor.
    """
    pin(threads)
    given, share = cores_first(usable_processors()), threads_of_rank(ranks, threads)
    mine = {given[(rank * share + number) % len(given)] for number in range(share)}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, mine)


def threads_of_rank(ranks: int, threads: int) -> int:
    """Return the number of threads of each of several ranks that share ``threads``; at least one."""
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
    """Identify the physical core of a processor by the list of its hyper-threads."""
    return read(_topology(processor, root) / "thread_siblings_list")


def _topology(processor: int, root: Path) -> Path:
    return root / f"sys/devices/system/cpu/cpu{processor}/topology"
