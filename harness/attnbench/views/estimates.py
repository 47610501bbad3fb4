"""Values with intervals: the time of a cell out of its processes, and ratios of two such times."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

FEW = 3
"""From so many processes on, the interval comes from the spread between processes."""
EXACT = 6
"""The range of fewer processes than this holds their median with less than 95 % confidence (2 / 2**n > 5 %)."""
UNSEEN = 1.02
"""How much two processes of the same code may differ, which no interval from within a process can see."""
RESAMPLES = 2000
NO_INTERVAL = "too few samples for an interval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, and where the interval comes from; ``None`` where there is no interval."""

    value: float
    low: float | None
    high: float | None
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval of a median within one process."""

    low: float
    high: float
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one cell: one median for each process, each with the interval of its samples. All in ns."""

    medians: tuple[float, ...]
    intervals: tuple[Interval | None, ...]

    @property
    def processes(self) -> int:
        """How many processes timed the cell."""
        return len(self.medians)

    @property
    def value(self) -> float:
        """The median of the processes' medians."""
        return statistics.median(self.medians)

    @functools.cached_property
    def estimate(self) -> Estimate:
        """The value with its interval.

        From three processes on, a percentile bootstrap over the processes (Efron and Tibshirani, "An Introduction to
        the Bootstrap", section 13.3); below, the hull of the intervals within each process, which does not see how
        processes differ.
        """
        if self.processes >= FEW:
            low, high = _percentiles(_medians_resampled(self.medians, seed=1))
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


def sample_interval(samples: Sequence[float] | None, ci_low: float | None, ci_high: float | None) -> Interval | None:
    """The interval within one process: the record's, or the range of the samples where they are too few for one.

    The range of n samples holds the median with confidence 1 - 2 / 2**n: 94 % for five, 75 % for three.
    """
    if ci_low is not None and ci_high is not None:
        return Interval(low=ci_low, high=ci_high, method="95 % interval within the process")
    if samples and len(samples) >= FEW:
        return Interval(low=min(samples), high=max(samples), method=f"range of {len(samples)} samples")
    return None


def ratio(numerator: Timing, denominator: Timing) -> Estimate:
    """Ratio of two cells' times with its interval.

    With three processes on both sides, a percentile bootstrap over processes, both sides resampled independently.
    Otherwise the quotient of the two intervals' opposite ends, which is wider than 95 %.
    """
    value = numerator.value / denominator.value
    fewest = min(numerator.processes, denominator.processes)
    if fewest >= FEW:
        above = _medians_resampled(numerator.medians, seed=1)
        below = _medians_resampled(denominator.medians, seed=2)
        low, high = _percentiles(above / below)
        return Estimate(value=value, low=low, high=high, method=_bootstrap_name(fewest))
    top, bottom = numerator.estimate, denominator.estimate
    if top.low is None or top.high is None or bottom.low is None or bottom.high is None:
        return Estimate(value=value, low=None, high=None, method=NO_INTERVAL)
    return Estimate(
        value=value, low=top.low / bottom.high, high=top.high / bottom.low, method="from the intervals of both medians"
    )


def clearly_faster(one: Timing, other: Timing) -> bool:
    """Whether ``one`` is faster beyond noise: the interval of the ratio lies above 1.

    With fewer than six processes on a side it must lie above 1.02, because processes of the same code differ, and so
    few do not tell by how much. A ratio without an interval is never clear.
    """
    if one.value >= other.value:
        return False
    gain = ratio(other, one)
    seen = min(one.processes, other.processes) >= EXACT
    return gain.low is not None and gain.low > (1.0 if seen else UNSEEN)


def _bootstrap_name(processes: int) -> str:
    name = f"bootstrap over {processes} processes"
    return name if processes >= EXACT else f"{name} (so few: nearer to their range than to 95 %)"


@functools.lru_cache(maxsize=1024)
def _medians_resampled(values: tuple[float, ...], *, seed: int) -> NDArray[np.float64]:
    """Medians of all resamples. A view compares one cell with many others, so the last ones are kept."""
    import numpy as np

    resampled: NDArray[np.float64] = np.median(np.asarray(values)[_draws(len(values), seed)], axis=1)
    return resampled


@functools.cache
def _draws(processes: int, seed: int) -> NDArray[np.int64]:
    """Which processes each resample holds, shape (RESAMPLES, processes); fixed, so that a view never changes."""
    import numpy as np

    return np.random.default_rng(seed).integers(processes, size=(RESAMPLES, processes))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
