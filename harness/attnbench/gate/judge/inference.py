"""Statistics of paired rounds: effects with moderated variances, tests against a tolerated change, false discoveries.

Pure functions of log ratios, head over base: one row per cell, one column per round, NaN for a round without a pair.
docs/gate.md describes the procedure.

Sources: Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", Stat. Appl. Genet. Mol. Biol. 3(1), 2004 (section 6.2: prior of the variances); McCarthy and Smyth,
"Testing significance relative to a fold-change threshold is a TREAT", Bioinformatics 25(6), 2009 (the test against a
tolerated change); Benjamini and Hochberg, J. R. Stat. Soc. B 57(1), 1995 (q-values).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special, stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

LEAST_ROUNDS = 3
"""A variance from fewer pairs is useless."""
LEAST_CELLS_TO_MODERATE = 3
_SMALLEST_SHARE = 1e-5
"""Zero variances, which have no logarithm, are replaced by this share of the median variance, as limma does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior:
    """The prior of a cell's variance, fitted to all cells: a scaled inverse chi-square distribution."""

    df: float
    """Its weight in degrees of freedom: 0 if it says nothing, infinite if all cells have the same variance."""
    variance: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """A change, as ln(head / base): positive is slower."""

    mean: float
    sd: float
    """Moderated standard deviation of one pair."""
    df: float
    rounds: int

    @property
    def se(self) -> float:
        """Standard error of the mean."""
        return self.sd / math.sqrt(self.rounds)

    @property
    def ratio(self) -> float:
        """Head over base: 1.05 is 5 % slower."""
        return math.exp(self.mean)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the ratio."""
        half = student_quantile((1 + level) / 2, self.df) * self.se
        return math.exp(self.mean - half), math.exp(self.mean + half)

    def p_slower(self, tolerated: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the ratio is at most ``1 + tolerated``."""
        return student_tail((self.mean - math.log1p(tolerated)) / _positive(self.se), self.df)

    def p_faster(self, tolerated: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the ratio is at least ``1 / (1 + tolerated)``."""
        return student_tail((-self.mean - math.log1p(tolerated)) / _positive(self.se), self.df)

    def shifted(self, by: float) -> Effect:
        """Return the same effect with its mean shifted."""
        return dataclasses.replace(self, mean=self.mean + by)


def student_tail(t: float, df: float) -> float:
    """Return P(T > t) of Student's distribution; infinite ``df`` gives the normal distribution."""
    return float(special.ndtr(-t) if math.isinf(df) else special.stdtr(df, -t))


def student_quantile(p: float, df: float) -> float:
    """Return the ``p`` quantile of Student's distribution; infinite ``df`` gives the normal distribution."""
    return float(special.ndtri(p) if math.isinf(df) else special.stdtrit(df, p))


def centre(logs: Matrix, reference: Sequence[int] | None = None) -> tuple[Matrix, NDArray[np.float64]]:
    """Remove the shift that all cells of a round share, such as a machine that slowed down between the sides.

    Args:
        logs: shape (cells, rounds).
        reference: rows whose median is the common shift; all by default.

    Returns:
        The centred logarithms, and the shift of each round. A change of every cell ends up in the shift; to test it,
        pass the shifts to :func:`estimate` as one row.
    """
    rows = logs if reference is None else logs[list(reference)]
    shifts = np.nanmedian(rows, axis=0)
    return logs - shifts, shifts


def prior_of(variances: NDArray[np.float64], df: NDArray[np.float64]) -> Prior:
    """Fit the prior to sample variances by the moments of their logarithms (Smyth 2004, section 6.2).

    Args:
        variances: one per cell, not negative.
        df: degrees of freedom of each.
    """
    if len(variances) < LEAST_CELLS_TO_MODERATE:
        return Prior(df=0.0, variance=0.0)
    positive = variances[variances > 0]
    if not len(positive):
        return Prior(df=0.0, variance=0.0)
    floored = np.maximum(variances, _SMALLEST_SHARE * np.median(positive))
    e = np.log(floored) - special.digamma(df / 2) + np.log(df / 2)
    excess = float(np.var(e, ddof=1) - np.mean(special.polygamma(1, df / 2)))
    if excess <= 0:
        return Prior(df=math.inf, variance=float(np.exp(np.mean(e))))
    prior_df = 2 * trigamma_inverse(excess)
    log_variance = float(np.mean(e)) + float(special.digamma(prior_df / 2)) - math.log(prior_df / 2)
    return Prior(df=prior_df, variance=math.exp(log_variance))


def trigamma_inverse(value: float) -> float:
    """Return the x > 0 at which the trigamma function is ``value`` > 0."""
    # trigamma(x) lies between 1/x + 1/(2x^2) and 1/x + 1/x^2, which brackets the root.
    low, high = 1 / (2 * value) + 1e-9, 1 / value + 1 / math.sqrt(value) + 1
    low = min(low, 1 / math.sqrt(value) / 2)
    root: float = optimize.brentq(lambda x: float(special.polygamma(1, x)) - value, low, high, xtol=1e-12)
    return root


def estimate(logs: Matrix) -> list[Effect | None]:
    """Estimate the effect of each cell from pairs; variances are moderated by those of all cells.

    Args:
        logs: shape (cells, rounds), NaN where there is no pair.

    Returns:
        ``None`` for a cell with fewer than three pairs.
    """
    rounds = np.sum(np.isfinite(logs), axis=1) if logs.size else np.zeros(len(logs), int)
    judged = [int(row) for row in np.flatnonzero(rounds >= LEAST_ROUNDS)]
    effects: list[Effect | None] = [None] * len(logs)
    if not judged:
        return effects
    df = (rounds[judged] - 1).astype(float)
    means = np.nanmean(logs[judged], axis=1)
    moderated = moderate(np.nanvar(logs[judged], axis=1, ddof=1), df)
    for row, mean, (variance, total) in zip(judged, means, moderated, strict=True):
        effects[row] = Effect(mean=float(mean), sd=math.sqrt(variance), df=total, rounds=int(rounds[row]))
    return effects


def estimate_unpaired(base: Matrix, head: Matrix) -> list[Effect | None]:
    """Estimate the effect of each cell from unpaired processes, such as those of a stored baseline.

    Both sides are assumed to have the same variance. ``sd`` is scaled so that ``se`` is the standard error of the
    difference of the two means.

    Args:
        base: logarithms of medians, shape (cells, processes), NaN for missing processes.
        head: the same for head; it may have another number of processes.
    """
    counts = [np.sum(np.isfinite(side), axis=1) for side in (base, head)]
    judged = [int(row) for row in np.flatnonzero((counts[0] >= LEAST_ROUNDS) & (counts[1] >= LEAST_ROUNDS))]
    effects: list[Effect | None] = [None] * len(base)
    if not judged:
        return effects
    n_base, n_head = counts[0][judged], counts[1][judged]
    df = (n_base + n_head - 2).astype(float)
    squares = (n_base - 1) * np.nanvar(base[judged], axis=1, ddof=1)
    squares = squares + (n_head - 1) * np.nanvar(head[judged], axis=1, ddof=1)
    means = np.nanmean(head[judged], axis=1) - np.nanmean(base[judged], axis=1)
    for row, mean, n, m, (variance, total) in zip(
        judged, means, n_base, n_head, moderate(squares / df, df), strict=True
    ):
        effects[row] = Effect(
            mean=float(mean), sd=math.sqrt(variance * (1 + int(m) / int(n))), df=total, rounds=int(m)
        )  # fmt: skip
    return effects


def moderate(variances: NDArray[np.float64], df: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Shrink each variance towards those of all cells, and return it with its degrees of freedom.

    s̃² = (d0 s0² + d s²) / (d0 + d), with d0 + d degrees of freedom, at most those of all cells together.
    """
    prior = prior_of(variances, df)
    most = float(np.sum(df))
    return [
        (
            prior.variance
            if math.isinf(prior.df)
            else float((prior.df * prior.variance + own * variance) / (prior.df + own)),
            min(prior.df + float(own), most),
        )
        for variance, own in zip(variances, df, strict=True)
    ]


def q_values(p_values: Sequence[float]) -> list[float]:
    """Return the false discovery rate at which each hypothesis would just be rejected (Benjamini and Hochberg)."""
    return [float(q) for q in stats.false_discovery_control(list(p_values))] if p_values else []


def _positive(se: float) -> float:
    """Bound a standard error of zero away from zero: equal samples in every round make a difference certain."""
    return max(se, 1e-12)
