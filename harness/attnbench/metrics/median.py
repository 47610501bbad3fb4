"""The confidence interval of a median, free of assumptions on the noise."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval between two order statistics that holds the median with at least this confidence.

    The number of samples below the true median is binomial (n, 1/2), whatever the distribution (Conover, "Practical
    Nonparametric Statistics", section 3.2). ``None`` below six samples: no pair of order statistics reaches 95 %.
    """
    rank = _rank(len(samples), confidence)
    if rank is None:
        return None
    ordered = sorted(samples)
    return ordered[rank], ordered[len(ordered) - 1 - rank]


@functools.cache
def _rank(n: int, confidence: float) -> int | None:
    """Largest rank r, from 0, for which P(r < Binomial(n, 1/2) < n - r) still reaches the confidence.

    Counted in whole numbers, so that a worker that only times does not have to load scipy.
    """
    allowed = (1.0 - confidence) / 2.0 * 2.0**n if n < 1000 else None
    if allowed is None:  # the normal approximation is exact to a rank here
        return int(n / 2 - 0.98 * math.sqrt(n) - 0.5)
    below, rank = 0, -1
    for k in range(n // 2):
        below += math.comb(n, k)
        if below > allowed:
            break
        rank = k
    return rank if rank >= 0 else None
