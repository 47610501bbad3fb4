"""Distribution-free confidence interval of a median."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return order statistics that enclose the median with a confidence of at least 95 %.

    The number of samples below the true median is binomial (n, 1/2) for any distribution (Conover, "Practical
    Nonparametric Statistics", section 3.2). ``None`` below six samples, where no pair of order statistics reaches 95 %.
    """
    rank = _rank(len(samples))
    if rank is None:
        return None
    ordered = sorted(samples)
    return ordered[rank], ordered[len(ordered) - 1 - rank]


@functools.cache
def _rank(n: int) -> int | None:
    """Return the largest rank r, from 0, for which P(r < Binomial(n, 1/2) < n - r) is at least 95 %.

    Computed with integers, so that workers which only time need not import scipy.
    """
    if n >= 1000:  # the normal approximation is off by less than a rank here
        return int(n / 2 - 0.98 * math.sqrt(n) - 0.5)
    allowed = 0.025 * 2.0**n
    below, rank = 0, -1
    for k in range(n // 2):
        below += math.comb(n, k)
        if below > allowed:
            break
        rank = k
    return rank if rank >= 0 else None
