"""Hardware counters of calls over all threads: cycles, instructions, last-level cache misses (perf_event_open(2)).

Most virtual machines have none. A miss moves a line of 64 bytes. Some processors do not count hardware prefetches, so
the bytes are a lower bound.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from attnbench.profiling.parts import Counted
from attnbench.profiling.perf_events import EXCLUDE_HV, EXCLUDE_KERNEL, TASKS, Opener, attribute, open_event

if TYPE_CHECKING:
    from collections.abc import Callable

_HARDWARE = 0
_EVENTS = {"cycles": 0, "instructions": 1, "cache_misses": 3}


class NoCountersError(RuntimeError):
    """This machine has no hardware counters, or hides them. The message is one sentence."""


def count(calls: Callable[[], int], opener: Opener = open_event) -> Counted:
    """Count events while calls are made, and return the counts per call.

    ``calls`` makes the calls on threads that already exist, and returns their number.

    Raises:
        NoCountersError: if this machine has no counters, or hides them.
    """
    opened: list[tuple[str, int]] = []
    try:
        for task in TASKS.iterdir():
            for name, event in _EVENTS.items():
                _, taken = attribute(_HARDWARE, event, EXCLUDE_KERNEL | EXCLUDE_HV)
                opened.append((name, opener(taken, int(task.name))))
        before = {descriptor: _read(descriptor) for _, descriptor in opened}
        made = calls()
        totals = dict.fromkeys(_EVENTS, 0)
        for name, descriptor in opened:
            totals[name] += _read(descriptor) - before[descriptor]
    except OSError as error:
        raise NoCountersError(f"this machine has no hardware counters, or hides them ({error.strerror})") from error
    finally:
        for _, descriptor in opened:
            os.close(descriptor)
    if not totals["cycles"] or not made:
        raise NoCountersError("this machine's hardware counters stand still")
    return Counted(**{name: total / made for name, total in totals.items()})


def _read(descriptor: int) -> int:
    (value,) = struct.unpack("<Q", os.read(descriptor, 8))
    return int(value)
