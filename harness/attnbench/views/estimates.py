"""Estimates with intervals: a cell's time from its processes, and the ratio of two such times."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from typing import TYPE_CHECKING, Literal

from attnbench.metrics.samples import BETWEEN_PROCESSES, interval_of_visits
from attnbench.units import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.scaling import Interval

FEW = 3
"""From this number of processes on, the interval comes from the spread between processes."""
EXACT = 6
"""With fewer processes, their range contains the median with less than 95 % confidence (2 / 2**n > 5 %)."""
UNSEEN = 1 + BETWEEN_PROCESSES
"""With few processes, the interval of a ratio must lie beyond this factor, not only beyond 1."""
TAIL = 0.025
"""The probability beyond either end of a 95 % interval."""
FAINT = 1e-7
"""Outcomes of a bootstrap that are less probable are dropped; all of them together do not fill a tail."""
NO_INTERVAL = "too few samples for an interval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval and the interval's method; both ends are ``None`` if there is no interval."""

    value: float
    low: float | None
    high: float | None
    method: str

    @property
    def ends(self) -> str:
        """Both ends of the interval as text, or an empty string."""
        return f"{number(self.low)} … {number(self.high)}" if self.low is not None and self.high is not None else ""


def as_fields(name: str, found: Estimate | Interval | None) -> dict[str, float | None]:
    """Return a value and the ends of its interval as fields of a row; all are ``None`` without an estimate."""
    value, low, high = (found.value, found.low, found.high) if found else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleInterval:
    """The interval of a median within one process."""

    low: float
    high: float
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visits:
    """A process's visits to a cell, in order."""

    run: str
    """The run's id. Within a run the cells of a case take turns, so their n-th visits are neighbours in time."""
    medians: tuple[float, ...]
    drift: float = 0.0
    """The machine's drift from run to run, as a share of the time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellTiming:
    """Times of one cell in nanoseconds: each process's median, with the interval of its samples."""

    medians: tuple[float, ...]
    intervals: tuple[SampleInterval | None, ...]
    visits: tuple[Visits | None, ...] = ()
    """The visits of each process, or ``None`` for a process without any."""

    @property
    def processes(self) -> int:
        """The number of processes that timed the cell."""
        return len(self.medians)

    @functools.cached_property
    def value(self) -> float:
        """The median of the processes' medians."""
        return statistics.median(self.medians)

    @functools.cached_property
    def estimate(self) -> Estimate:
        """The value with its interval.

        With three or more processes, a percentile bootstrap over the processes (Efron and Tibshirani, "An Introduction
        to the Bootstrap", section 13.3). With fewer, the hull of the intervals within each process, which ignores
        differences between processes.
        """
        if self.processes >= FEW:
            medians, chances = _resampled_medians(self.medians)
            low, high = _ends(medians, chances)
            return Estimate(value=self.value, low=low, high=high, method=_bootstrap_name(self.processes))
        known = [interval for interval in self.intervals if interval is not None]
        if len(known) < self.processes:
            return Estimate(value=self.value, low=None, high=None, method=NO_INTERVAL)
        methods = sorted({interval.method for interval in known})
        return Estimate(
            value=self.value,
            low=min(interval.low for interval in known),
            high=max(interval.high for interval in known),
            method=" and ".join(methods) + ("" if self.processes == 1 else f", hull over {self.processes} processes"),
        )


def sample_interval(
    samples: Sequence[float] | None, ci_low: float | None, ci_high: float | None, visits: int = 0
) -> SampleInterval | None:
    """Return the interval within one process: the record's, or the range of the samples if they are too few for one.

    The range of n samples contains the median with confidence 1 - 2 / 2**n: 94 % for five, 75 % for three. The result
    is ``None`` below three samples.
    """
    if ci_low is not None and ci_high is not None:
        method = f"95 % interval over {visits} visits" if visits else "95 % interval within the process"
        return SampleInterval(low=ci_low, high=ci_high, method=method)
    if samples and len(samples) >= FEW:
        return SampleInterval(low=min(samples), high=max(samples), method=f"range of {len(samples)} samples")
    return None


def ratio(numerator: CellTiming, denominator: CellTiming) -> Estimate:
    """Return the ratio of two cells' times with its interval.

    With three or more processes on both sides, the interval is a percentile bootstrap over processes that resamples
    both sides independently. It is exact, so the inverse ratio has the reciprocal interval.

    With one process of the same run on either side, the estimate is the median ratio of visits that are next to each
    other in time, and its interval combines Student's t over these ratios with the machine's drift, because another
    state of the machine may favour one side. This differs from the ratio of the two medians, which can be of different
    paces if the machine changes its pace in the middle of a run.

    Otherwise the interval is the quotient of the two intervals' opposite ends, which is wider than 95 %.
    """
    ratios, drift = _ratios_of_visits(numerator, denominator)
    paired = statistics.median(ratios) if ratios else 0.0
    if interval := interval_of_visits(paired, ratios, drift):
        return Estimate(value=paired, low=interval[0], high=interval[1], method=f"{len(ratios)} pairs of visits")
    value = numerator.value / denominator.value
    fewest = min(numerator.processes, denominator.processes)
    if fewest >= FEW:
        above, above_chances = _resampled_medians(numerator.medians)
        below, below_chances = _resampled_medians(denominator.medians)
        low, high = _ends((above[:, None] / below).ravel(), (above_chances[:, None] * below_chances).ravel())
        return Estimate(value=value, low=low, high=high, method=_bootstrap_name(fewest))
    top, bottom = numerator.estimate, denominator.estimate
    if top.low is None or top.high is None or bottom.low is None or bottom.high is None:
        return Estimate(value=value, low=None, high=None, method=NO_INTERVAL)
    return Estimate(
        value=value, low=top.low / bottom.high, high=top.high / bottom.low, method="from the intervals of both medians"
    )


def _ratios_of_visits(numerator: CellTiming, denominator: CellTiming) -> tuple[list[float], float]:
    """Return the ratios of neighbouring visits, and the drift; no ratios with several processes or different runs."""
    if len(numerator.visits) != 1 or len(denominator.visits) != 1:
        return [], 0.0
    (above,), (below,) = numerator.visits, denominator.visits
    if above is None or below is None or above.run != below.run:
        return [], 0.0
    ratios = [top / bottom for top, bottom in zip(above.medians, below.medians, strict=False)]
    return ratios, max(above.drift, below.drift)


def clearly_faster(one: CellTiming, other: CellTiming) -> bool:
    """Whether ``one`` is faster than ``other`` beyond noise, by the rule of :func:`difference`."""
    return difference(other, one, ratio(other, one)) == "faster"


def difference(
    numerator: CellTiming, denominator: CellTiming, gain: Estimate
) -> Literal["faster", "slower", "within noise"]:
    """Compare the denominator with the numerator: ``faster`` if the ratio's interval is above 1, ``slower`` if below.

    With fewer than six processes on a side, the interval must be clear of 1 by 2 %: processes of the same code differ,
    and too few of them do not show by how much. A ratio without an interval is ``within noise``.
    """
    if gain.low is None or gain.high is None:
        return "within noise"
    room = 1.0 if min(numerator.processes, denominator.processes) >= EXACT else UNSEEN
    if gain.low > room:
        return "faster"
    return "slower" if gain.high < 1 / room else "within noise"


def _bootstrap_name(processes: int) -> str:
    name = f"bootstrap over {processes} processes"
    return name if processes >= EXACT else f"{name} (so few: nearer to their range than to 95 %)"


@functools.lru_cache(maxsize=1024)
def _resampled_medians(values: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the possible medians of a resample and their probabilities; cached, as one cell is compared with many."""
    import numpy as np

    lower, upper, chances = _median_law(len(values))
    ordered = np.sort(np.asarray(values, np.float64))
    return (ordered[lower] + ordered[upper]) / 2, chances


@functools.cache
def _median_law(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return which two of n ordered values the median of a resample lies between, with their probabilities.

    The bootstrap of a median needs no random numbers (Efron, "Bootstrap methods: another look at the jackknife",
    1979, section 3): the k-th smallest of n draws is at most the i-th value when at least k draws are.

    Returns:
        Index of the lower and of the upper value (equal where n is odd), and the probability, shape (outcomes,) each.
    """
    import numpy as np

    lower, upper = (n + 1) // 2, n // 2 + 1
    at_most = [_at_least(lower, n, i / n) for i in range(n + 1)]
    found: list[tuple[int, int, float]] = []
    for i in range(n):
        chance = at_most[i + 1] - at_most[i]
        for j in range(i + 1, n) if upper > lower else ():
            # Half of the draws are at most the i-th value and one equals it; the other half likewise for the j-th
            # value.
            half = ((i + 1) / n) ** lower - (i / n) ** lower
            rest = ((n - j) / n) ** lower - ((n - j - 1) / n) ** lower
            apart = math.comb(n, lower) * half * rest
            found.append((i, j, apart))
            chance -= apart
        found.append((i, i, chance))
    kept = [one for one in found if one[2] >= FAINT]
    lowers, uppers, chances = zip(*kept, strict=True)
    return np.array(lowers), np.array(uppers), np.array(chances)


def _at_least(k: int, n: int, share: float) -> float:
    """Return the probability that at least k of n independent draws succeed."""
    return math.fsum(math.comb(n, hits) * share**hits * (1 - share) ** (n - hits) for hits in range(k, n + 1))


def _ends(values: NDArray[np.float64], chances: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the central 95 %: values beyond which at most 2.5 % of the probability lies."""
    order = values.argsort()
    below = chances[order].cumsum()
    low, high = below.searchsorted((TAIL, below[-1] - TAIL))
    return float(values[order[low]]), float(values[order[high]])
