"""The confidence interval of a median, free of assumptions on the noise."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """Interval between two order statistics that holds the median with a confidence of at least 95 %.

    The number of samples below the true median is binomial (n, 1/2), whatever the distribution (Conover, "Practical
    Nonparametric Statistics", section 3.2). ``None`` below six samples: no pair of order statistics reaches 95 %.
    """
    rank = _rank(len(samples))
    if rank is None:
        return None
    ordered = sorted(samples)
    return ordered[rank], ordered[len(ordered) - 1 - rank]


@functools.cache
def _rank(n: int) -> int | None:
    """Largest rank r, from 0, for which P(r < Binomial(n, 1/2) < n - r) still reaches 95 %.

    Counted in whole numbers, so that a worker that only times does not have to load scipy.
    """
    if n >= 1000:  # the normal approximation is exact to a rank here
        return int(n / 2 - 0.98 * math.sqrt(n) - 0.5)
    allowed = 0.025 * 2.0**n
    below, rank = 0, -1
    for k in range(n // 2):
        below += math.comb(n, k)
        if below > allowed:
            break
        rank = k
    return rank if rank >= 0 else None
