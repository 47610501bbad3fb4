"""The law that a quantity follows over the sequence length, with 95 % intervals.

The offset power law ``a + b·n^k`` keeps the launch floor ``a`` out of the exponent, which a straight line through
logarithms does not: over a floor of 20 µs a quadratic kernel would come out as n^0.5.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.scaling.cliffs import find_cliffs, patterns_of
from attnbench.scaling.laws import LAWS, N_LOG_N, POWER, Fits, Law, aicc, fit_law

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attnbench.scaling.cliffs import Kind

    Array = NDArray[np.float64]

FEWEST_SIZES = 5
NARROWEST = 8.0
"""The range of lengths over which the growing term must be seen above the floor."""
FEWEST_PROCESSES = 3
_RESAMPLES = 300
_SUPPORTED = 2.0
"""The data prefer none of two laws whose AICc differs by less (Burnham and Anderson 2002, section 2.6)."""
_LACK_OF_FIT = 0.01
_UNLIKE = 0.05
_SEEN = 0.02
"""A floor that makes up less of the smallest value is not told from none."""
_VAGUE = 10.0
"""An interval whose ends differ by a larger factor than this squared says nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cliff:
    """A length at which the quantity leaves its law: a cache no longer holds it, or another kernel takes over."""

    length: int
    """Length of the outlier, or the first one beyond a step."""
    kind: Kind
    factor: float
    """The factor on the law: at this length, or from it on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no law was fitted; one sentence without its full stop."""

    reason: str
    local_exponent: Interval | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a quantity grows."""

    law: Law
    """The best supported one; the power law where the data prefer none."""
    support: dict[str, float]
    """AICc of each law less that of the best, by name; a law that contradicts the exponent is left out."""
    exponent: Interval
    """``k`` of the power law; it describes the range only where another law is better supported."""
    floor: Interval | None
    """``a`` of the power law in the quantity's unit; ``None`` where it is not told from nothing."""
    crossover: Interval | None
    """The length at which ``b·n^k`` equals the floor; ``None`` without one."""
    local_exponent: Interval
    """Slope between the two largest lengths, both logarithmic: whatever the law, this is what doubling costs there."""
    cliffs: tuple[Cliff, ...]
    lengths: tuple[int, ...]
    processes: int
    coefficient: float
    """``b`` of the power law, in the quantity's unit."""
    noise: float
    """Residual standard deviation about the power law, as a share."""
    method: str
    """A phrase that says how the intervals are computed."""

    def predicted(self, length: float) -> float:
        """The power law at a length, with all steps that lie before it: an extrapolation beyond the range."""
        base = (self.floor.value if self.floor else 0.0) + self.coefficient * float(length) ** self.exponent.value
        return float(base * math.prod(c.factor for c in self.cliffs if c.kind == "step" and length >= c.length))

    def largest_within(self, budget: float) -> float | None:
        """The largest length that the law allows within a budget, or ``None`` where even the floor exceeds it."""
        low, high = 1.0, float(2**40)
        if self.predicted(low) > budget:
            return None
        while high / low > 1.0001:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.predicted(middle) <= budget else (low, middle)
        return low


def fit_scaling(lengths: Sequence[int], values: Sequence[Sequence[float]], *, seed: int = 0) -> Scaling | Refusal:
    """Fit the laws and choose among them.

    Intervals of three processes and more are those of a bootstrap over whole processes, whose standard error is
    widened for their small number and taken times Student's t with one degree less than there are processes (Cameron,
    Gelbach and Miller, "Bootstrap-based improvements for inference with clustered errors", 2008, on why few clusters
    need both). One or two processes cannot tell how processes differ, and samples of one process even less; there, and
    wherever the law misses the sizes by more than processes differ, the interval comes from the scatter of the sizes
    about the law, with Student's t.

    Args:
        lengths: rising.
        values: above 0; for each length one value from each process, the processes in the same order. Where some
            process has not all lengths, the values of each length stand for one process, by their mean.
        seed: of the resampling.
    """
    ordered = sorted(zip(lengths, values, strict=True), key=lambda pair: pair[0])
    known = [(n, v) for n, v in ordered if v and min(v) > 0]
    sizes = np.array([n for n, _ in known], np.float64)
    if len(sizes) < FEWEST_SIZES:
        return Refusal(reason=f"{len(sizes)} sizes are too few for a law: it takes {FEWEST_SIZES}")
    logs = _by_process([v for _, v in known])
    means = logs.mean(0, keepdims=True)
    spread = _process_noise(logs)
    found = find_cliffs(sizes, means[0], spread)
    patterns = patterns_of(found, len(sizes))
    fits = {law.name: fit_law(law, sizes, means, patterns) for law in LAWS}
    power = fits[POWER.name]
    reach = float(sizes[-1] / max(sizes[0], math.exp(float(power.crossover[0]))))
    local = _local_exponent(sizes, logs, power)
    if reach < NARROWEST:
        return Refusal(
            reason=f"growth is seen over a range of {reach:.2g}x above the floor: it takes {NARROWEST:g}x",
            local_exponent=local,
        )
    intervals, method = _intervals(power, logs, patterns, spread, seed)
    chosen, support = _choose(fits, len(found), intervals["exponent"])
    smallest = math.exp(float(means.min()))
    floor, crossover = _vague_is_none(intervals["floor"]), _vague_is_none(intervals["crossover"])
    floor_is_seen = floor is not None and floor.value >= _SEEN * smallest
    return Scaling(
        law=chosen,
        support=support,
        exponent=intervals["exponent"],
        floor=floor if floor_is_seen else None,
        crossover=crossover if floor_is_seen else None,
        local_exponent=local,
        cliffs=tuple(
            Cliff(length=int(sizes[c.index]), kind=c.kind, factor=math.exp(float(height)))
            for c, height in zip(found, power.steps()[0], strict=True)
        ),
        lengths=tuple(int(n) for n in sizes),
        processes=len(logs),
        coefficient=math.exp(float(power.parameters[0, 1] - power.exponent[0] * math.log(sizes[-1]))),
        noise=math.sqrt(float(power.errors[0]) / max(1, len(sizes) - power.parameters.shape[1])),
        method=method,
    )


def _by_process(values: Sequence[Sequence[float]]) -> Array:
    """Logarithms, shape (processes, sizes)."""
    if len({len(v) for v in values}) == 1:
        return np.log(np.array(values, np.float64)).T
    return np.array([[np.log(v).mean() for v in values]])


def _process_noise(logs: Array) -> float | None:
    """Standard error of a size's mean by how processes differ at it, their general levels apart; ``None`` of one."""
    processes, sizes = logs.shape
    if processes < FEWEST_PROCESSES:
        return None
    apart = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
    return math.sqrt(float(np.square(apart).sum()) / ((processes - 1) * (sizes - 1)) / processes)


def _choose(fits: dict[str, Fits], cliffs: int, exponent: Interval) -> tuple[Law, dict[str, float]]:
    """The best supported law, and how far the others are behind it.

    With few sizes AICc favours the law with fewest parameters by so much that it must be kept from contradicting the
    exponent: ``n log n`` looks like a power a little above 1, and is out where the interval excludes such.
    """
    sizes = fits[POWER.name].lengths
    scores = {
        name: aicc(float(fit.errors[0]), len(sizes), fit.law.parameters + cliffs) for name, fit in fits.items()
    }  # fmt: skip
    slopes = 1 + 1 / np.log(sizes)  # of n log n, at each size
    if exponent.high < slopes.min() - _UNLIKE or exponent.low > slopes.max() + _UNLIKE:
        del scores[N_LOG_N.name]
    best = min(scores.values())
    support = {name: score - best for name, score in scores.items()}
    name = POWER.name if support[POWER.name] < _SUPPORTED else min(support, key=support.__getitem__)
    return fits[name].law, support


def _intervals(
    power: Fits, logs: Array, patterns: Array, spread: float | None, seed: int
) -> tuple[dict[str, Interval], str]:
    """95 % intervals of exponent, floor and crossover, and where they come from."""
    sizes = logs.shape[1]
    freedom = max(1, sizes - power.parameters.shape[1])
    scatter = {name: error * _student(freedom) for name, error in _scatter_errors(power, patterns, freedom).items()}
    about_law = f"scatter of {sizes} sizes about the law, t with {freedom} degrees of freedom"
    if spread is None:
        return _around(power, scatter), about_law
    processes = len(logs)
    between = {
        name: error * _student(processes - 1) for name, error in _process_errors(logs, power, patterns, seed).items()
    }
    if _misses(power, spread, freedom, processes):
        wider = {name: max(between[name], scatter[name]) for name in between}
        return _around(power, wider), f"{about_law}, which processes alone do not explain"
    return _around(power, between), f"bootstrap over {processes} processes, t with {processes - 1} degrees of freedom"


def _misses(power: Fits, spread: float, freedom: int, processes: int) -> bool:
    """F test of the law's residuals against what processes differ by at a size."""
    from scipy.special import fdtrc

    if spread == 0:
        return True
    ratio = float(power.errors[0]) / freedom / spread**2
    sizes = len(power.lengths)
    return bool(fdtrc(freedom, (processes - 1) * (sizes - 1), ratio) < _LACK_OF_FIT)


def _process_errors(logs: Array, power: Fits, patterns: Array, seed: int) -> dict[str, float]:
    """Standard errors by resampling whole processes."""
    processes = len(logs)
    means, chances = _resampled_means(logs, seed)
    resampled = fit_law(POWER, power.lengths, means, patterns, near=power.parameters[0])
    widened = math.sqrt(processes / (processes - 1))

    def error(values: Array) -> float:
        return widened * math.sqrt(float(chances @ np.square(values - chances @ values)))

    return {
        "exponent": error(resampled.exponent),
        "floor": error(resampled.floor),
        "crossover": error(resampled.crossover),
    }


def _resampled_means(logs: Array, seed: int) -> tuple[Array, Array]:
    """Means over resampled processes, shape (resamples, sizes), and the probability of each.

    Few processes have few resamples that differ, 10 for three: those are taken one by one, each as often as it would
    be drawn (Hall, "The Bootstrap and Edgeworth Expansion", 1992, appendix I). More processes are resampled at random.
    """
    processes = len(logs)
    if math.comb(2 * processes - 1, processes) > _RESAMPLES:
        draws = np.random.default_rng(seed).integers(processes, size=(_RESAMPLES, processes))
        return logs[draws].mean(1), np.full(_RESAMPLES, 1 / _RESAMPLES)
    draws, chances = _all_resamples(processes)
    return logs[draws].mean(1), chances


@functools.cache
def _all_resamples(processes: int) -> tuple[NDArray[np.int64], Array]:
    """All multisets of processes, shape (multisets, processes), and the probability of each."""
    found = list(itertools.combinations_with_replacement(range(processes), processes))
    orders = [
        math.factorial(processes) / math.prod(math.factorial(one.count(i)) for i in range(processes)) for one in found
    ]
    return np.array(found), np.array(orders) / float(processes) ** processes


def _scatter_errors(power: Fits, patterns: Array, freedom: int) -> dict[str, float]:
    """Standard errors by the linearised least-squares fit."""
    slopes = np.concatenate([power.jacobian(), patterns], axis=1)
    variance = float(power.errors[0]) / freedom
    # A floor too faint to matter has no influence, so it takes no part.
    floor_matters = bool(slopes[:, 0].max() > 1e-3)
    used = slopes if floor_matters else slopes[:, 1:]
    covariance = variance * np.linalg.pinv(used.T @ used)
    if not floor_matters:
        padded = np.zeros((slopes.shape[1], slopes.shape[1]))
        padded[1:, 1:] = covariance
        padded[0, 0] = math.inf
        covariance = padded
    exponent = float(power.exponent[0])
    way = np.array([1.0, -1.0, -float(power.crossover[0] - math.log(power.lengths[-1]))]) / exponent
    crossover = way @ covariance[:3, :3] @ way if floor_matters else math.inf
    return {
        "exponent": math.sqrt(covariance[2, 2]),
        "floor": math.sqrt(covariance[0, 0]),
        "crossover": math.sqrt(max(0.0, crossover)),
    }


def _around(power: Fits, half: dict[str, float]) -> dict[str, Interval]:
    """The exponent's interval is symmetric; those of floor and crossover are so on a logarithmic scale."""
    exponent = float(power.exponent[0])
    made = {"exponent": Interval(value=exponent, low=exponent - half["exponent"], high=exponent + half["exponent"])}
    for name, at in (("floor", float(power.floor[0])), ("crossover", float(power.crossover[0]))):
        width = min(half[name], 50.0)
        made[name] = Interval(value=math.exp(at), low=math.exp(at - width), high=math.exp(at + width))
    return made


def _vague_is_none(interval: Interval) -> Interval | None:
    return interval if interval.high / interval.low <= _VAGUE**2 else None


def _local_exponent(sizes: Array, logs: Array, power: Fits) -> Interval:
    """Slope between the two largest lengths."""
    apart = math.log(sizes[-1] / sizes[-2])
    slopes = (logs[:, -1] - logs[:, -2]) / apart
    value = float(slopes.mean())
    if len(slopes) >= FEWEST_PROCESSES:
        half = _student(len(slopes) - 1) * float(slopes.std(ddof=1)) / math.sqrt(len(slopes))
    else:
        freedom = max(1, len(sizes) - power.parameters.shape[1])
        noise = math.sqrt(float(power.errors[0]) / freedom)
        half = _student(freedom) * noise * math.sqrt(2) / apart
    return Interval(value=value, low=value - half, high=value + half)


def _student(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
