"""Statistics of a call's samples."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from attnbench.metrics.median import median_interval

if TYPE_CHECKING:
    from collections.abc import Sequence


def time_statistics(samples: Sequence[float]) -> dict[str, Any]:
    """Metrics by name: median with its 95 % interval, quartiles, minimum, and samples above q3 + 3 IQR."""
    ordered = sorted(samples)
    interval = median_interval(ordered)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    return {
        "time_median_ns": statistics.median(ordered),
        "time_ci_low_ns": interval[0] if interval else None,
        "time_ci_high_ns": interval[1] if interval else None,
        "time_min_ns": ordered[0],
        "time_q1_ns": quartiles[0],
        "time_q3_ns": quartiles[2],
        "time_outliers": sum(1 for sample in ordered if sample > quartiles[2] + 3 * (quartiles[2] - quartiles[0])),
    }
