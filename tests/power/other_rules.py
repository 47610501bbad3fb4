"""Other tools' rules applied to the same samples; each gets the data that the tool itself would take.

True is "slower". Rules and defaults: pytest-benchmark ``--benchmark-compare-fail`` (one process, one statistic);
a plain rank-sum test; asv ``compare`` (rank-sum p < 0.002 and a factor of 1.1, samples of two processes pooled);
criterion (bootstrap of the means' difference, p < 0.05, and the interval beyond 1 %).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    Samples = Sequence[float]

RESAMPLES = 2000


def judge_by_others(base: Sequence[Samples], head: Sequence[Samples]) -> dict[str, bool]:
    """Return, by rule, whether head is called slower.

    Args:
        base: samples of each process, in order.
        head: samples of each process, in order.
    """
    one, other = np.asarray(base[0]), np.asarray(head[0])
    two_base, two_head = (
        np.concatenate([np.asarray(x) for x in base[:2]]),
        np.concatenate([np.asarray(x) for x in head[:2]]),
    )
    return {
        "pytest-benchmark min:5%": bool(other.min() > 1.05 * one.min()),
        "pytest-benchmark mean:5%": bool(other.mean() > 1.05 * one.mean()),
        "Mann-Whitney 0.05": bool(stats.mannwhitneyu(other, one).pvalue < 0.05 and np.median(other) > np.median(one)),
        "asv": bool(
            np.median(two_head) > 1.1 * np.median(two_base) and stats.mannwhitneyu(two_head, two_base).pvalue < 0.002
        ),
        "criterion": criterion(one.tolist(), other.tolist()),
    }


def criterion(base: Samples, head: Samples) -> bool:
    """Whether a t test, bootstrapped from both pooled, and a 95 % interval beyond 1 % of noise call head slower."""
    rng = np.random.default_rng(0)
    one, other = np.asarray(base), np.asarray(head)
    both = np.concatenate([one, other])
    drawn_a, drawn_b = rng.choice(both, (RESAMPLES, len(one))), rng.choice(both, (RESAMPLES, len(other)))
    null = stats.ttest_ind(drawn_b, drawn_a, axis=1, equal_var=False).statistic
    seen = stats.ttest_ind(other, one, equal_var=False).statistic
    p = float(np.mean(np.abs(null) >= abs(seen)))
    means_a = rng.choice(one, (RESAMPLES, len(one))).mean(axis=1)
    means_b = rng.choice(other, (RESAMPLES, len(other))).mean(axis=1)
    low = float(np.percentile(means_b / means_a - 1, 2.5))
    return p < 0.05 and low > 0.01
