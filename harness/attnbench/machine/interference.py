"""Interference with a measurement: counted around a timed window, and predicted from the environment."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.hardware.cpu import processor_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BUSY_SHARE = 0.5
"""Load per processor above which other work is reported."""
_STEAL_SHARE = 0.01
_FREE_SHARE = 0.1
_FREE_SHARE_OF_A_GPU = 0.5
_HOT_C = 75


@dataclasses.dataclass(frozen=True)
class Counters:
    """The operating system's counters; ``None`` if the system does not count."""

    involuntary_switches: int | None
    major_faults: int | None
    ticks: tuple[int, int] | None
    """Stolen time and total time since boot, in clock ticks summed over all processors."""
    load: float | None
    """Mean number of runnable tasks over the last minute."""


@dataclasses.dataclass(frozen=True)
class Interference:
    """Difference of two readings of the counters; ``None`` if the system does not count."""

    involuntary_switches: int | None
    """Number of times that this process was preempted."""
    major_faults: int | None
    """Number of page faults that went to disk."""
    steal_share: float | None
    """Share of all processors' time that the hypervisor gave to others."""
    load_before: float | None
    load_after: float | None


def read_counters(root: Path = Path("/")) -> Counters:
    """Read all counters; takes about ten microseconds."""
    switches = faults = None
    if sys.platform != "win32":  # Windows has no getrusage
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        switches, faults = usage.ru_nivcsw, usage.ru_majflt
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Counters(switches, faults, processor_ticks(root), load)


def interference(before: Counters, after: Counters) -> Interference:
    """Return the difference of two readings of the counters."""
    steal_share = None
    # A window shorter than a clock tick (10 ms) has no measurable share.
    if before.ticks and after.ticks and after.ticks[1] > before.ticks[1]:
        steal_share = (after.ticks[0] - before.ticks[0]) / (after.ticks[1] - before.ticks[1])
    return Interference(
        involuntary_switches=_difference(before.involuntary_switches, after.involuntary_switches),
        major_faults=_difference(before.major_faults, after.major_faults),
        steal_share=steal_share,
        load_before=before.load,
        load_after=after.load,
    )


def warnings(here: Mapping[str, Any]) -> list[str]:
    """Return sentences on what makes this machine's numbers less reliable.

    Facts that are missing or ``None`` cause no warning.
    """
    found = [sentence for look in (_load, _clock, _virtual, _memory, _pages) for sentence in look(here.get)]
    return found + [sentence for gpu in here.get("gpus") or [] for sentence in _gpu(gpu)]


def busy(here: Mapping[str, Any]) -> list[str]:
    """Return sentences on other work on the processors at the time of the :func:`environment` call."""
    return list(_load(here.get))


def stolen(share: float) -> list[str]:
    """Return a sentence if the hypervisor gave more than 1 % of a timed window to other machines."""
    if share <= _STEAL_SHARE:
        return []
    return [f"The hypervisor gave up to {100 * share:.1f} % of the timed windows to other machines."]


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _load(get: Callable[[str], Any]) -> Iterator[str]:
    load, usable = get("load_average"), len(get("cpu_usable") or [])
    if load and usable and load[0] > _BUSY_SHARE * usable:
        yield (
            f"other work is running: the load was {load[0]:.1f} over the last minute, on {usable} usable processors; "
            "times will be longer and vary more"
        )


def _clock(get: Callable[[str], Any]) -> Iterator[str]:
    governor = get("cpu_governor")
    if governor and governor != "performance":
        yield (
            f"the frequency governor is {governor!r}: the clock follows the load; "
            "for steadier times: sudo cpupower frequency-set -g performance"
        )


def _virtual(get: Callable[[str], Any]) -> Iterator[str]:
    if get("cpu_hypervisor"):
        yield "this is a virtual machine: its neighbours, which it cannot see, share caches and memory bandwidth"
    steal = get("cpu_steal_share")
    if steal and steal > _STEAL_SHARE:
        yield f"the hypervisor gave {100 * steal:.1f} % of the processors' time since boot to other machines"
    limit, usable = get("cpu_limit"), len(get("cpu_usable") or [])
    if limit and limit < usable:
        yield (
            f"the container may use {limit:g} processors' worth of time on {usable} processors: "
            f"more than {max(1, int(limit))} threads will be halted in turns"
        )


def _memory(get: Callable[[str], Any]) -> Iterator[str]:
    used = get("swap_used_bytes")
    if used:
        yield f"{used / 2**20:.0f} MiB are swapped out: a call that touches them waits for the disk"
    available, total = get("memory_available_bytes"), get("memory_total_bytes")
    if available and total and available < _FREE_SHARE * total:
        yield f"only {available / 2**30:.1f} of {total / 2**30:.1f} GiB of memory are free: large cases will not fit"


def _pages(get: Callable[[str], Any]) -> Iterator[str]:
    if get("huge_pages") == "always":
        yield "transparent huge pages are set to 'always': peaks of memory are read in steps of up to 2 MiB"


def _gpu(gpu: Mapping[str, Any]) -> Iterator[str]:
    if gpu.get("processes"):
        count = gpu["processes"]
        whose = "1 other process computes" if count == 1 else f"{count} other processes compute"
        yield f"{whose} on GPU {gpu.get('index')} ({gpu.get('name')})"
    free = (gpu.get("memory_total_bytes") or 0) - (gpu.get("memory_used_bytes") or 0)
    if gpu.get("memory_total_bytes") and free < _FREE_SHARE_OF_A_GPU * gpu["memory_total_bytes"]:
        yield f"only {free / 2**30:.1f} GiB of GPU {gpu.get('index')} are free: large cases will not fit"
    if gpu.get("temperature_c") is not None and gpu["temperature_c"] >= _HOT_C:
        yield f"GPU {gpu.get('index')} is at {gpu['temperature_c']} °C before anything runs: it may throttle"
