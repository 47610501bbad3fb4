"""Fits of the law that a quantity follows over the sequence length, with 95 % intervals.

The offset power law ``a + b·n^k`` keeps the launch floor ``a`` out of the exponent. A straight line through logarithms
does not: with a floor of 20 µs a quadratic kernel would appear as n^0.5.
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
"""Least factor between lengths over which the growing term exceeds the floor."""
FEWEST_PROCESSES = 3
_RESAMPLES = 300
_SUPPORTED = 2.0
"""Laws whose AICc differs by less are equally supported (Burnham and Anderson 2002, section 2.6)."""
_LACK_OF_FIT = 0.01
_UNLIKE = 0.05
_SEEN = 0.02
"""A smaller floor, as a share of the smallest value, cannot be told from zero."""
_VAGUE = 10.0
"""An interval whose ends differ by more than the square of this factor says nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cliff:
    """A length at which the quantity leaves its law, such as one that no longer fits a cache or uses another kernel."""

    length: int
    """Length of the outlier, or the first one after a step."""
    kind: Kind
    factor: float
    """Factor on the law, at this length or from it on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no law was fitted; a sentence without its full stop."""

    reason: str
    local_exponent: Interval | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """The fitted growth of a quantity."""

    law: Law
    """The best supported law; the power law if several are equally supported."""
    support: dict[str, float]
    """AICc of each law minus that of the best, by name; laws that contradict the exponent are left out."""
    exponent: Interval
    """``k`` of the power law; only a description of the measured range if another law is better supported."""
    floor: Interval | None
    """``a`` of the power law in the quantity's unit; ``None`` if it cannot be told from zero."""
    crossover: Interval | None
    """Length at which ``b·n^k`` equals the floor; ``None`` without a floor."""
    local_exponent: Interval
    """Slope between the two largest lengths on logarithmic axes, independent of the law."""
    cliffs: tuple[Cliff, ...]
    lengths: tuple[int, ...]
    processes: int
    coefficient: float
    """``b`` of the power law, in the quantity's unit."""
    noise: float
    """Residual standard deviation about the power law, relative."""
    method: str
    """Phrase that says how the intervals were computed."""

    def predicted(self, length: float) -> float:
        """Return the power law's value at a length, including all steps before it; it extrapolates beyond the range."""
        base = (self.floor.value if self.floor else 0.0) + self.coefficient * float(length) ** self.exponent.value
        return float(base * math.prod(c.factor for c in self.cliffs if c.kind == "step" and length >= c.length))

    def largest_within(self, budget: float) -> float | None:
        """Return the largest length within a budget by the law; ``None`` if even the floor exceeds it."""
        low, high = 1.0, float(2**40)
        if self.predicted(low) > budget:
            return None
        while high / low > 1.0001:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.predicted(middle) <= budget else (low, middle)
        return low


def fit_scaling(lengths: Sequence[int], values: Sequence[Sequence[float]], *, seed: int = 0) -> Scaling | Refusal:
    """Fit the laws and choose among them.

    With three or more processes, intervals come from a bootstrap over whole processes. Its standard error is widened
    for their small number and multiplied by Student's t with one degree of freedom less than there are processes
    (Cameron, Gelbach and Miller, "Bootstrap-based improvements for inference with clustered errors", 2008, on why few
    clusters need both). One or two processes cannot show how processes differ. For them, and if the law misses the
    sizes by more than processes differ, intervals come from the scatter of the sizes about the law, with Student's t.

    Args:
        lengths: rising.
        values: positive; for each length one value per process, in the same order of processes. If some process lacks a
            length, the values of each length are averaged and treated as one process.
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
    """Return logarithms, shape (processes, sizes); a single row of means if some process lacks a size."""
    if len({len(v) for v in values}) == 1:
        return np.log(np.array(values, np.float64)).T
    return np.array([[np.log(v).mean() for v in values]])


def _process_noise(logs: Array) -> float | None:
    """Return the standard error of a size's mean, from how processes differ beyond their level; ``None`` for few."""
    processes, sizes = logs.shape
    if processes < FEWEST_PROCESSES:
        return None
    apart = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
    return math.sqrt(float(np.square(apart).sum()) / ((processes - 1) * (sizes - 1)) / processes)


def _choose(fits: dict[str, Fits], cliffs: int, exponent: Interval) -> tuple[Law, dict[str, float]]:
    """Return the best supported law, and by how much the others are worse.

    With few sizes AICc strongly favours the law with the fewest parameters, so ``n log n``, which resembles a power
    slightly above 1, is excluded if the exponent's interval contradicts it.
    """
    sizes = fits[POWER.name].lengths
    scores = {
        name: aicc(float(fit.errors[0]), len(sizes), fit.law.parameters + cliffs) for name, fit in fits.items()
    }  # fmt: skip
    slopes = 1 + 1 / np.log(sizes)  # local exponent of n log n at each size
    if exponent.high < slopes.min() - _UNLIKE or exponent.low > slopes.max() + _UNLIKE:
        del scores[N_LOG_N.name]
    best = min(scores.values())
    support = {name: score - best for name, score in scores.items()}
    name = POWER.name if support[POWER.name] < _SUPPORTED else min(support, key=support.__getitem__)
    return fits[name].law, support


def _intervals(
    power: Fits, logs: Array, patterns: Array, spread: float | None, seed: int
) -> tuple[dict[str, Interval], str]:
    """Return 95 % intervals of exponent, floor and crossover, and how they were computed."""
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
    """F test: whether the law's residuals exceed the differences between processes at a size."""
    from scipy.special import fdtrc

    if spread == 0:
        return True
    ratio = float(power.errors[0]) / freedom / spread**2
    sizes = len(power.lengths)
    return bool(fdtrc(freedom, (processes - 1) * (sizes - 1), ratio) < _LACK_OF_FIT)


def _process_errors(logs: Array, power: Fits, patterns: Array, seed: int) -> dict[str, float]:
    """Return standard errors from resampling whole processes."""
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
    """Return means over resampled processes, shape (resamples, sizes), and the probability of each.

    Few processes have few distinct resamples, 10 for three. These are enumerated, each with its probability (Hall, "The
    Bootstrap and Edgeworth Expansion", 1992, appendix I). More processes are resampled at random.
    """
    processes = len(logs)
    if math.comb(2 * processes - 1, processes) > _RESAMPLES:
        draws = np.random.default_rng(seed).integers(processes, size=(_RESAMPLES, processes))
        return logs[draws].mean(1), np.full(_RESAMPLES, 1 / _RESAMPLES)
    draws, chances = _all_resamples(processes)
    return logs[draws].mean(1), chances


@functools.cache
def _all_resamples(processes: int) -> tuple[NDArray[np.int64], Array]:
    """Return all multisets of processes, shape (multisets, processes), and the probability of each."""
    found = list(itertools.combinations_with_replacement(range(processes), processes))
    orders = [
        math.factorial(processes) / math.prod(math.factorial(one.count(i)) for i in range(processes)) for one in found
    ]
    return np.array(found), np.array(orders) / float(processes) ** processes


def _scatter_errors(power: Fits, patterns: Array, freedom: int) -> dict[str, float]:
    """Return standard errors from the linearised least-squares fit."""
    slopes = np.concatenate([power.jacobian(), patterns], axis=1)
    variance = float(power.errors[0]) / freedom
    # A floor too faint to influence the fit is left out.
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
    """Build intervals: symmetric for the exponent, symmetric in the logarithm for floor and crossover."""
    exponent = float(power.exponent[0])
    made = {"exponent": Interval(value=exponent, low=exponent - half["exponent"], high=exponent + half["exponent"])}
    for name, at in (("floor", float(power.floor[0])), ("crossover", float(power.crossover[0]))):
        width = min(half[name], 50.0)
        made[name] = Interval(value=math.exp(at), low=math.exp(at - width), high=math.exp(at + width))
    return made


def _vague_is_none(interval: Interval) -> Interval | None:
    return interval if interval.high / interval.low <= _VAGUE**2 else None


def _local_exponent(sizes: Array, logs: Array, power: Fits) -> Interval:
    """Return the slope between the two largest lengths."""
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
