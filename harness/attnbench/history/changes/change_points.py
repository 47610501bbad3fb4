"""Change points in a series of times: candidates, which only the gate can confirm.

Levels are found by PELT (Killick, Fearnhead and Eckley, J. Am. Stat. Assoc. 107, 2012; the library ruptures) on
logarithms weighted by their own variances. Single-point spikes are removed first (Hampel's filter), and variances are
inflated if the points scatter more than these allow. A candidate's p-value is that of the difference between the levels
on either side, times the number of places where it could have been; Benjamini and Hochberg's procedure over all cells
limits the share of false ones.
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
"""Standard deviation of ln(time) between builds of the same code, added to that of the rounds."""
_PENALTY = 2.0
"""In units of ln n of the weighted sum of squares; generous, since p-values and the gate follow."""
_SPIKE = 4.0
_WINDOW = 2
_NORMAL_MAD = 1.4826
_EXCLUDED = 6.635
"""99 % point of chi square with one degree of freedom: a place is ruled out if its misfit is larger by more."""


class ChangePointError(UsageError):
    """The search for change points is not possible here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A place at which a series seems to change."""

    at: int
    """Index of the first point after the change, best fit."""
    earliest: int
    latest: int
    """99 % bounds, inclusive, of that index."""
    size: float
    """Difference of the levels' logarithms; positive is slower."""
    se: float
    p: float
    """Two-sided, corrected for the choice of place."""


def require_ruptures() -> None:
    """Raise unless ruptures is installed.

    Raises:
        ChangePointError: if it is missing.
    """
    if importlib.util.find_spec("ruptures") is None:
        raise ChangePointError("the search for change points needs ruptures: pip install 'attnbench[history]'")


def steps(series: TimeSeries) -> list[Step]:
    """Return the candidates of one series, oldest first.

    Raises:
        ChangePointError: if ruptures is not installed.
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
    # PELT needs two points on either side, but the newest commit matters most, so it is tested by itself.
    places.append((borders[-2], count - 1, count))
    found: list[Step] = []
    for start, at, end in places:
        step = _step(logs, weights, excess * covariance, start, at, end)
        if not (found and found[-1].latest >= at):
            found.append(_widened(step, logs != series.logs, start, end))
    return found


def q_values(found: Sequence[Sequence[Step]]) -> list[list[float]]:
    """Return the false discovery rates of all cells' steps together; a series without steps counts as one test."""
    from scipy import stats

    p_values = [step.p for own in found for step in own] + [1.0 for own in found if not own]
    if not p_values:
        return []
    rates = iter(stats.false_discovery_control(p_values))
    return [[float(next(rates)) for _ in own] for own in found]


def without_spikes(logs: Vector, sds: Vector) -> Vector:
    """Replace single points far from the median of their neighbours by that median; steps stay (Hampel 1974)."""
    cleaned = logs.copy()
    for i in range(1, len(logs) - 1):
        near = logs[max(0, i - _WINDOW) : i + _WINDOW + 1]
        middle = float(np.median(near))
        spread = max(float(sds[i]), _NORMAL_MAD * float(np.median(np.abs(near - middle))))
        if abs(logs[i] - middle) > _SPIKE * spread:
            cleaned[i] = middle
    return cleaned


def scatter(logs: Vector, variances: Vector) -> float:
    """Return by how much points scatter beyond their variances (at least 1), from differences of neighbours."""
    standardised = np.diff(logs) / np.sqrt(variances[1:] + variances[:-1])
    return max(1.0, (_NORMAL_MAD * float(np.median(np.abs(standardised)))) ** 2)


def _levels(logs: Vector, weights: Vector) -> list[int]:
    """Return the end index of each level."""
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
    """Widen the bounds by one point if a spike next to them was removed, which may have shifted the place by one."""
    earliest, latest = max(start + 1, step.earliest - 1), min(end - 1, step.latest + 1)
    if not was_spike[earliest - 1 : latest + 1].any():
        return step
    return dataclasses.replace(step, earliest=earliest, latest=latest)


def _misfit(logs: Vector, weights: Vector) -> float:
    """Return the weighted sum of squares about the weighted mean."""
    total = float(weights.sum())
    mean = float(weights @ logs) / total
    return float(weights @ (logs - mean) ** 2)


@functools.cache
def _weighted_cost() -> type[Any]:
    """Return the misfit as a cost class for ruptures; cumulative sums make each call constant time."""
    from ruptures.base import BaseCost

    class WeightedMean(BaseCost):  # type: ignore[misc]  # ruptures has no types
        """Cost of a signal of logarithms and weights, shape (points, 2)."""

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
