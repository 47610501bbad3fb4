"""Tolerances as given on the command line: ``5%``, ``memory=1%``, ``exponent=0.2``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLERATED = ("time", "memory", "exponent")


def tolerances(given: Sequence[str]) -> dict[str, float]:
    """Parse tolerances such as ``5%`` or ``time=5%``, ``memory=1%`` and ``exponent=0.2``, by metric.

    Raises:
        UsageError: if one is malformed, names an unknown metric, or is given twice.
    """
    found: dict[str, float] = {}
    for text in given:
        name, is_named, value = text.rpartition("=")
        metric = name.strip() if is_named else "time"
        if metric not in TOLERATED:
            raise UsageError(f"--delta {text}: {metric!r} is no metric that has one: {', '.join(TOLERATED)}")
        if metric in found:
            raise UsageError(f"--delta {text}: what is tolerated of {metric} is given twice")
        found[metric] = _difference(value) if metric == "exponent" else share(value)
    return found


def share(text: str) -> float:
    """Parse a share such as ``3%`` or ``0.03``.

    Raises:
        UsageError: if it is malformed, or not between 0 and 100 %.
    """
    number, sign, _ = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        raise UsageError(f"{text!r} is no share: write 3% or 0.03") from None
    if not 0 < value < 1:
        raise UsageError(f"{text!r} is no share between 0 and 100 %: write 3% or 0.03")
    return value


def at_least(value: int, least: int) -> int:
    """Return a number of rounds that is not below the least one.

    Raises:
        UsageError: if it is too small to estimate a variance.
    """
    if value < least:
        raise UsageError(f"{value} rounds are too few: at least {least}")
    return value


def _difference(text: str) -> float:
    """Parse a difference of exponents."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{text!r} is no difference of exponents: write exponent=0.2")
    return value
