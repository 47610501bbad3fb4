"""How fast this machine is at the moment, and how much that changes from run to run.

A processor that is shared with other machines, or that gets warm, has days and minutes. No interval from within a run
of seconds sees them; fixed work that every run repeats does.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from itertools import pairwise
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.machine.caches import own_cache
from attnbench.untrusted.regular_file import append_line, read_regular

if TYPE_CHECKING:
    from pathlib import Path

PRIOR = 0.04
"""The drift that is presumed of a machine of which nothing is known."""
PRIOR_WEIGHT = 4
"""How many steps from run to run that presumption weighs as much as."""
_SIDE = 384
_SETTLING_NS, _BEAT_NS = 60_000_000, 20_000_000
_REMEMBERED_S = 7 * 24 * 3600
_MOST_BYTES = 2**18


def beat() -> float:
    """Nanoseconds of a matrix product in float32 through torch: the median over 20 ms, after 60 ms that are not timed.

    So long it may take until a scheduler has spread threads that slept over the processors.
    """
    import torch

    one = torch.linspace(-1, 1, _SIDE * _SIDE).reshape(_SIDE, _SIDE)
    begins = perf_counter_ns() + _SETTLING_NS
    while perf_counter_ns() < begins:
        torch.mm(one, one)
    times: list[int] = []
    ends = perf_counter_ns() + _BEAT_NS
    while (start := perf_counter_ns()) < ends or not times:
        torch.mm(one, one)
        times.append(perf_counter_ns() - start)
    return statistics.median(times)


class Heartbeats:
    """Heartbeats of this run, and of earlier runs on the same machine with as many threads."""

    def __init__(self, earlier: Path | None) -> None:
        """``earlier``: where they are kept; ``None`` for nowhere."""
        self._path = earlier
        self._runs = [] if earlier is None else _kept(earlier)
        self._now: list[float] = []

    def add(self, ns: float | None) -> None:
        """One more of this run, where there is one."""
        if ns:
            self._now.append(ns)

    @property
    def drift(self) -> float:
        """The standard deviation between runs, as a share, of which :data:`PRIOR` is presumed at first.

        From the differences of successive runs: half of what the middle 68 % of them span, over the root of two. So
        neither a few runs that were far off nor the hours in which the machine was busy with something else count.
        """
        runs = [*self._runs, self._now] if self._now else self._runs
        logs = [math.log(statistics.median(run)) for run in runs]
        steps = [after - before for before, after in pairwise(logs)]
        low, high = _ends_of_the_middle(steps) if len(steps) > 1 else (0.0, 0.0)
        variance = ((high - low) / 2) ** 2 / 2
        return math.sqrt((len(steps) * variance + PRIOR_WEIGHT * PRIOR**2) / (len(steps) + PRIOR_WEIGHT))

    def keep(self) -> None:
        """Keep those of this run for later ones; a cache that cannot be written costs only that."""
        if self._path is None or not self._now:
            return
        line = " ".join([f"{time.time():.0f}", *(f"{ns:.0f}" for ns in self._now)])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, line)


def _ends_of_the_middle(values: list[float]) -> tuple[float, float]:
    """The quantiles of 16 % and 84 %."""
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    return percentiles[15], percentiles[83]


def heartbeats_of(machine_key: str, threads: int) -> Path:
    """Path of a machine's heartbeats."""
    return own_cache() / "heartbeats" / f"{machine_key}-{threads}.txt"


def _kept(path: Path) -> list[list[float]]:
    """Read the heartbeats of the last week, run by run; unreadable lines are skipped."""
    try:
        text = read_regular(path, _MOST_BYTES, tail=True).decode("ascii", errors="replace")
    except OSError:
        return []
    runs: list[list[float]] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            when, *beats = map(float, line.split())
            if beats and abs(time.time() - when) < _REMEMBERED_S and all(0 < ns < math.inf for ns in beats):
                runs.append(beats)
    return runs
