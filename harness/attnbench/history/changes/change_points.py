"""Points at which a series of times may have changed: candidates, which only the gate can confirm.

Levels are found by PELT (Killick, Fearnhead and Eckley, J. Am. Stat. Assoc. 107, 2012; the library ruptures) on
logarithms weighted by their own variances. Spikes of single points are taken out before (Hampel's filter), and where
the points scatter more than their variances say, these grow. A candidate's p-value is that of the difference of the two
levels beside it, times the places where it could have been; over all cells Benjamini and Hochberg's procedure holds
the share of false ones.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attnbench.history.series import TimeSeries

    Vector = NDArray[np.float64]

LEAST_POINTS = 4
BUILD_SD = 0.005
"""Two builds of the same code differ by so much, whatever the rounds of one of them say."""
_PENALTY = 2.0
"""In units of ln n of the weighted sum of squares: a little generous, since p-values and the gate come behind it."""
_SPIKE = 4.0
_WINDOW = 2
_NORMAL_MAD = 1.4826
_EXCLUDED = 6.635
"""99 % point of chi square with one degree of freedom: places whose fit is worse by more are excluded."""


class ChangePointError(UsageError):
    """The search cannot be made here; one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A place where a series seems to change."""

    at: int
    """Index of the first point behind the change, as it fits best."""
    earliest: int
    latest: int
    """The first point behind the change is none before ``earliest`` and none behind ``latest``, at 99 %."""
    size: float
    """Difference of the logarithms of the two levels; positive is slower."""
    se: float
    p: float
    """Two-sided, corrected for the choice of the place."""


def require_ruptures() -> None:
    """Do nothing where the extra is installed.

    Raises:
        ChangePointError: otherwise.
    """
    if importlib.util.find_spec("ruptures") is None:
        raise ChangePointError("the search for change points needs ruptures: pip install 'attnbench[history]'")


def steps(series: TimeSeries) -> list[Step]:
    """Candidates of one series, oldest first.

    Raises:
        ChangePointError: when ruptures is not installed.
    """
    require_ruptures()
    count = len(series.logs)
    if count < LEAST_POINTS:
        return []
    covariance = series.covariance + BUILD_SD**2 * np.eye(count)
    variances = np.diag(covariance)
    logs = without_spikes(series.logs, np.sqrt(variances))
    excess = scatter(logs, variances)
    weights = 1 / (excess * variances)
    ends = _levels(logs, weights)
    borders = [0, *ends]
    places = [(borders[i - 1], borders[i], borders[i + 1]) for i in range(1, len(borders) - 1)]
    # PELT asks for two points on either side, and the newest commit is the one that matters.
    places.append((borders[-2], count - 1, count))
    found: list[Step] = []
    for start, at, end in places:
        step = _step(logs, weights, excess * covariance, start, at, end)
        if not (found and found[-1].latest >= at):
            found.append(_widened(step, logs != series.logs, start, end))
    return found


def q_values(found: Sequence[Sequence[Step]]) -> list[list[float]]:
    """False discovery rates of all cells' steps together; a series without any counts as one that was tested."""
    from scipy import stats

    p_values = [step.p for own in found for step in own] + [1.0 for own in found if not own]
    if not p_values:
        return []
    rates = iter(stats.false_discovery_control(p_values))
    return [[float(next(rates)) for _ in own] for own in found]


def without_spikes(logs: Vector, sds: Vector) -> Vector:
    """Single points that stand far from the median of their neighbours are set to it; steps stay (Hampel 1974)."""
    cleaned = logs.copy()
    for i in range(1, len(logs) - 1):
        near = logs[max(0, i - _WINDOW) : i + _WINDOW + 1]
        middle = float(np.median(near))
        spread = max(float(sds[i]), _NORMAL_MAD * float(np.median(np.abs(near - middle))))
        if abs(logs[i] - middle) > _SPIKE * spread:
            cleaned[i] = middle
    return cleaned


def scatter(logs: Vector, variances: Vector) -> float:
    """How many times their variances points scatter, 1 at least; from neighbours, few of which have a step between."""
    standardised = np.diff(logs) / np.sqrt(variances[1:] + variances[:-1])
    return max(1.0, (_NORMAL_MAD * float(np.median(np.abs(standardised)))) ** 2)


def _levels(logs: Vector, weights: Vector) -> list[int]:
    """The end of each level."""
    import ruptures

    search = ruptures.Pelt(custom_cost=_weighted_cost()(), min_size=2, jump=1)
    search.fit(np.column_stack([logs, weights]))
    return [int(end) for end in search.predict(pen=_PENALTY * math.log(len(logs)))]


def _step(logs: Vector, weights: Vector, covariance: NDArray[np.float64], start: int, at: int, end: int) -> Step:
    left, right = slice(start, at), slice(at, end)
    contrast = np.zeros(len(logs))
    contrast[right] = weights[right] / weights[right].sum()
    contrast[left] = -weights[left] / weights[left].sum()
    size = float(contrast @ logs)
    se = math.sqrt(float(contrast @ covariance @ contrast))
    places = range(start + 1, end)
    fits = {k: _misfit(logs[start:k], weights[start:k]) + _misfit(logs[k:end], weights[k:end]) for k in places}
    possible = [k for k in places if fits[k] - fits[at] <= _EXCLUDED]
    p = math.erfc(abs(size) / se / math.sqrt(2)) * (len(logs) - 1)
    return Step(at=at, earliest=min(possible), latest=max(possible), size=size, se=se, p=min(1.0, p))


def _widened(step: Step, was_spike: NDArray[np.bool_], start: int, end: int) -> Step:
    """With a point more on either side where a spike beside it was taken out, which may have moved its place by one."""
    earliest, latest = max(start + 1, step.earliest - 1), min(end - 1, step.latest + 1)
    if not was_spike[earliest - 1 : latest + 1].any():
        return step
    return dataclasses.replace(step, earliest=earliest, latest=latest)


def _misfit(logs: Vector, weights: Vector) -> float:
    """Weighted sum of squares about the weighted mean."""
    total = float(weights.sum())
    mean = float(weights @ logs) / total
    return float(weights @ (logs - mean) ** 2)


@functools.cache
def _weighted_cost() -> type[Any]:
    """The misfit as ruptures wants it; sums from the start make each piece's a matter of four differences."""
    from ruptures.base import BaseCost

    class WeightedMean(BaseCost):  # type: ignore[misc]  # ruptures has no types
        """Signal: logarithms and weights, shape (points, 2)."""

        model = "weighted mean"
        min_size = 1

        def fit(self, signal: Vector) -> WeightedMean:
            logs, weights = signal[:, 0], signal[:, 1]
            self.signal = signal
            self._sums = [
                np.concatenate([[0.0], np.cumsum(weights * logs**power)]) for power in (0, 1, 2)
            ]  # fmt: skip
            return self

        def error(self, start: int, end: int) -> float:
            total, first, second = (float(sums[end] - sums[start]) for sums in self._sums)
            return second - first * first / total

    return WeightedMean
