"""Current speed of this machine, and its variation from run to run.

The speed of a processor that is shared or gets warm changes over minutes and days. No interval from within a run of
seconds shows that, but fixed work that every run repeats does.
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
"""Drift assumed for a machine without history, as a relative standard deviation."""
PRIOR_WEIGHT = 4
"""Weight of that assumption, in steps from run to run."""
_SIDE = 384
_SETTLING_NS, _BEAT_NS = 60_000_000, 20_000_000
_REMEMBERED_S = 7 * 24 * 3600
_MOST_BYTES = 2**18


def beat() -> float:
    """Time a float32 matrix product through torch: the median over 20 ms in nanoseconds, after 60 ms untimed.

    A scheduler may need that long to spread threads that slept over the processors.
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
    """Heartbeats of this run, and of earlier runs on the same machine with the same number of threads."""

    def __init__(self, earlier: Path | None) -> None:
        """Read earlier heartbeats from the file ``earlier``; ``None`` for no file."""
        self._path = earlier
        self._runs = [] if earlier is None else _kept(earlier)
        self._now: list[float] = []

    def add(self, ns: float | None) -> None:
        """Add a heartbeat of this run; ``None`` is ignored."""
        if ns:
            self._now.append(ns)

    @property
    def drift(self) -> float:
        """Relative standard deviation between runs, starting from :data:`PRIOR`.

        It is computed from differences of successive runs: half the width of their middle 68 %, divided by the root of
        two. A few runs that were far off, or hours in which the machine was busy, therefore do not count.
        """
        runs = [*self._runs, self._now] if self._now else self._runs
        logs = [math.log(statistics.median(run)) for run in runs]
        steps = [after - before for before, after in pairwise(logs)]
        low, high = _ends_of_the_middle(steps) if len(steps) > 1 else (0.0, 0.0)
        variance = ((high - low) / 2) ** 2 / 2
        return math.sqrt((len(steps) * variance + PRIOR_WEIGHT * PRIOR**2) / (len(steps) + PRIOR_WEIGHT))

    def keep(self) -> None:
        """Append the heartbeats of this run to the file; errors are ignored, since it is only a cache."""
        if self._path is None or not self._now:
            return
        line = " ".join([f"{time.time():.0f}", *(f"{ns:.0f}" for ns in self._now)])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, line)


def _ends_of_the_middle(values: list[float]) -> tuple[float, float]:
    """Return the 16 % and 84 % quantiles."""
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    return percentiles[15], percentiles[83]


def heartbeats_of(machine_key: str, threads: int) -> Path:
    """Return the path of a machine's heartbeats."""
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
