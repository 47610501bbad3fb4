"""Where the ticks of a logarithmic axis stand, and what they read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 8


def decimal_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Powers of ten; with 2 and 5 between them where the range is short, and still finer where it is very short."""
    for leading in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100, 2))):
        ticks = _ticks(low, high, 10, leading)
        if len(ticks) >= 3:
            return _thinned(ticks, most)
    return _thinned(ticks, most)


def binary_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Powers of 1024, 16, 4 or 2, as few as say enough; finer where the range is very short."""
    for base, leading in ((1024, (1,)), (16, (1,)), (4, (1,)), (2, (1,)), (2, (1, 1.5)), (2, (1, 1.25, 1.5, 1.75))):
        ticks = _ticks(low, high, base, leading)
        if len(ticks) >= 3:
            return _thinned(ticks, most)
    return _thinned(ticks, most)


def length_ticks(lengths: Sequence[int]) -> list[int]:
    """The lengths that were measured, every second or third of them where they are many."""
    return [round(tick) for tick in _thinned([float(tokens) for tokens in lengths], MOST)]


def padded(low: float, high: float, factor: float = 1.25) -> tuple[float, float]:
    """Room at both ends of a logarithmic axis; a single value gets it too."""
    return low / factor, high * factor


def _ticks(low: float, high: float, base: int, leading: Sequence[float]) -> list[float]:
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    candidates = [digit * float(base) ** power for power in range(first, last + 1) for digit in leading]
    return [tick for tick in candidates if low <= tick <= high]


def _thinned(ticks: list[float], most: int) -> list[float]:
    step = math.ceil(len(ticks) / most) or 1
    return ticks[::step]
