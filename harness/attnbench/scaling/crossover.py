"""Crossovers: lengths at which one implementation overtakes another."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossover:
    """A length at which a ratio passes through 1."""

    length: float
    low: float | None
    """Smallest length at which the ratio's interval contains 1; ``None`` if it still does at the smallest length."""
    high: float | None
    """Largest length at which it does; ``None`` if it still does at the largest length."""
    rises: bool
    """Whether the ratio is below 1 before the crossover and above 1 after it."""


def crossovers(
    lengths: Sequence[int], ratios: Sequence[float], lows: Sequence[float], highs: Sequence[float]
) -> list[Crossover]:
    """Return all lengths at which a ratio of two quantities passes through 1, with 95 % intervals.

    The ratio and the ends of its interval are interpolated between sizes by straight lines on logarithmic axes. The
    interval of a crossing consists of the lengths around it at which the band contains 1: a crossing at any other
    length would contradict the measurement there.

    Args:
        lengths: rising.
        ratios: positive.
        lows: lower ends of their 95 % intervals.
        highs: upper ends.
    """
    xs = [math.log(n) for n in lengths]
    middle, low, high = ([math.log(r) for r in values] for values in (ratios, lows, highs))
    found = []
    apart = [i for i, value in enumerate(middle) if value != 0]  # a ratio of exactly 1 is on neither side
    for i, j in itertools.pairwise(apart):
        if middle[i] * middle[j] > 0:
            continue
        found.append(
            Crossover(
                length=math.exp(_zero(xs, middle, i) if j == i + 1 else (xs[i + 1] + xs[j - 1]) / 2),
                low=_exp(_left_end(xs, low, high, i)),
                high=_exp(_right_end(xs, low, high, j)),
                rises=middle[i] < 0,
            )
        )
    return _merged(found)


def _merged(found: Sequence[Crossover]) -> list[Crossover]:
    """Merge crossings with the same interval: an odd number is one crossing with noise, an even number is none."""
    together: dict[tuple[float | None, float | None], list[Crossover]] = {}
    for one in found:
        together.setdefault((one.low, one.high), []).append(one)
    return [ones[len(ones) // 2] for ones in together.values() if len(ones) % 2 == 1]


def _left_end(xs: Sequence[float], low: Sequence[float], high: Sequence[float], start: int) -> float | None:
    """Return the logarithm of the length at which the band comes to contain 1, searching to smaller lengths."""
    for i in range(start, -1, -1):
        if high[i] < 0:
            return _zero(xs, high, i)
        if low[i] > 0:
            return _zero(xs, low, i)
    return None


def _right_end(xs: Sequence[float], low: Sequence[float], high: Sequence[float], start: int) -> float | None:
    for i in range(start, len(xs)):
        if high[i] < 0:
            return _zero(xs, high, i - 1)
        if low[i] > 0:
            return _zero(xs, low, i - 1)
    return None


def _zero(xs: Sequence[float], ys: Sequence[float], i: int) -> float:
    return xs[i] + (xs[i + 1] - xs[i]) * ys[i] / (ys[i] - ys[i + 1])


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)
