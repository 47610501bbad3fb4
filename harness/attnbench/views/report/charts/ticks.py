"""Ticks of logarithmic axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 8


def decimal_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Return powers of ten, with digits between them if the range is short."""
    finest = tuple(n / 10 for n in range(10, 100, 2))
    return _enough(
        low, high, most, [(10, digits) for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), finest)]
    )


def binary_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Return powers of 1024, 16, 4 or 2, the coarsest that give three ticks; a very short range has finer ones."""
    steps = ((1024, (1,)), (16, (1,)), (4, (1,)), (2, (1,)), (2, (1, 1.5)), (2, (1, 1.25, 1.5, 1.75)))
    return _enough(low, high, most, steps)


def length_ticks(lengths: Sequence[int]) -> list[int]:
    """Return the measured lengths, or every n-th of them if there are many."""
    return [round(tick) for tick in _thinned([float(tokens) for tokens in lengths], MOST)]


def padded(low: float, high: float, factor: float = 1.25) -> tuple[float, float]:
    """Add room at both ends of a logarithmic axis, even for a single value."""
    return low / factor, high * factor


def _enough(low: float, high: float, most: int, steps: Sequence[tuple[int, Sequence[float]]]) -> list[float]:
    """Return ticks of the first base and leading digits that give at least three, or of the last ones."""
    found = (_ticks(low, high, base, leading) for base, leading in steps)
    ticks = next((ticks for ticks in found if len(ticks) >= 3), None)
    return _thinned(_ticks(low, high, *steps[-1]) if ticks is None else ticks, most)


def _ticks(low: float, high: float, base: int, leading: Sequence[float]) -> list[float]:
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    candidates = [digit * float(base) ** power for power in range(first, last + 1) for digit in leading]
    return [tick for tick in candidates if low <= tick <= high]


def _thinned(ticks: list[float], most: int) -> list[float]:
    step = math.ceil(len(ticks) / most) or 1
    return ticks[::step]
