"""Statistics of a call's samples."""

from __future__ import annotations

import math
import statistics
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from attnbench.metrics.median import median_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
BETWEEN_PROCESSES = 0.02
"""Relative standard deviation between processes of the same code, which no single process can observe: it depends on
where their memory is and which processors their threads start on. It is assumed, not measured (docs/methodology.md)."""
_NORMAL = 1.96
_MOST_REACH = 300.0
"""Largest half width of a logarithm's interval; beyond it the ends overflow."""


def time_statistics(
    samples: Sequence[float], visits: Sequence[int] | None = None, drift: float = 0.0
) -> dict[str, float | None]:
    """Return metrics by name: median with 95 % interval, quartiles, minimum, and number of samples above q3 + 3 IQR.

    Args:
        samples: nanoseconds of a call, in order.
        visits: number of samples in each visit.
        drift: relative standard deviation of the machine's speed between runs.
    """
    ordered = sorted(samples)
    median = statistics.median(ordered)
    interval = interval_of_visits(median, visit_medians(samples, visits), drift) if visits else median_interval(ordered)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    return {
        "time_median_ns": median,
        "time_ci_low_ns": interval[0] if interval else None,
        "time_ci_high_ns": interval[1] if interval else None,
        "time_min_ns": ordered[0],
        "time_q1_ns": quartiles[0],
        "time_q3_ns": quartiles[2],
        "time_outliers": sum(1 for sample in ordered if sample > quartiles[2] + 3 * (quartiles[2] - quartiles[0])),
    }


def visit_medians(samples: Sequence[float], visits: Sequence[int]) -> list[float]:
    """Return the median of each visit's samples."""
    ends = accumulate(visits, initial=0)
    return [statistics.median(samples[begin:end]) for begin, end in pairwise(ends)]


def interval_of_visits(value: float, medians: Sequence[float], drift: float = 0.0) -> tuple[float, float] | None:
    """Return the 95 % prediction interval of a value for as many later visits; ``None`` below three visits.

    A prediction interval (Hahn and Meeker, "Statistical Intervals", section 4.8) of the mean of logarithms. Its scatter
    is that between visits, since neighbouring samples share short-term changes. The variation between processes and the
    drift of the machine, for this run and the later one, are added in quadrature.
    """
    if len(medians) < 3 or min(medians) <= 0:
        return None
    from scipy.special import stdtrit

    count = len(medians)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    within = quantile * statistics.stdev(map(math.log, medians)) * math.sqrt(2 / count)
    reach = math.hypot(within, _NORMAL * math.sqrt(2) * math.hypot(drift, BETWEEN_PROCESSES))
    if reach > _MOST_REACH:
        return None
    return value * math.exp(-reach), value * math.exp(reach)
