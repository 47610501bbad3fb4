"""Numbers with units, for people. What is absent reads as a dash."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Unit = Literal[
    "ns", "s", "bytes", "flop", "TFLOP/s", "GB/s", "tokens/s", "%", "ratio", "count", "MHz", "J", "index", "yes/no",
    "text",
]  # fmt: skip
"""The unit of a metric. An index is one of (batch, head, row, column)."""

ABSENT = "—"
TIMES = "\N{MULTIPLICATION SIGN}"

_TIME = ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_BYTES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB"))
_RATE = ((1e-3, "GFLOP/s"), (1.0, "TFLOP/s"))
_FLOP = ((1, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP"))


def shown(value: Any, unit: Unit) -> str:
    """A value of a metric with its unit, as a table shows it; of several values, each."""
    if value is None:
        return ABSENT
    if unit == "index":
        return ", ".join(f"{noun} {i}" for noun, i in zip(("batch", "head", "row", "column"), value, strict=False))
    if isinstance(value, list | tuple):
        return ", ".join(shown(one, unit) for one in value)
    match unit:
        case "ns":
            return duration(value)
        case "s":
            return duration(1e9 * value)
        case "bytes":
            return size(value)
        case "flop":
            one, name = _scale(value, _FLOP)
            return f"{number(value / one)} {name}"
        case "TFLOP/s":
            return rate(value)
        case "GB/s" | "tokens/s" | "%" | "J":
            return f"{number(value)} {unit}"
        case "MHz":
            return f"{value:,.0f} MHz"
        case "count":
            return f"{value:,}"
        case "ratio":
            return number(value)
        case "yes/no":
            return "yes" if value else "no"
    return str(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits (more where its whole part has more), thousands in groups."""
    if value is None:
        return ABSENT
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals = max(0, decimals - 1)  # 9.996 has become 10.00: one decimal too many
    return f"{rounded:,.{decimals}f}"


def duration(ns: float | None, digits: int = 3) -> str:
    """Nanoseconds as ns, µs, ms or s."""
    if ns is None:
        return ABSENT
    size, unit = _scale(ns, _TIME)
    return f"{number(ns / size, digits)} {unit}"


def common_unit(values: Sequence[float], unit: Literal["ns", "bytes", "TFLOP/s"]) -> tuple[float, str]:
    """The unit that a column of durations, sizes or rates is in, and what it is worth: that of the value in the middle.

    It is smaller where the least value would be less than a thousandth of it.

    Args:
        values: what the column shows; at least one.
        unit: what they are counted in.
    """
    units: tuple[tuple[float, str], ...] = {"ns": _TIME, "bytes": _BYTES, "TFLOP/s": _RATE}[unit]
    ordered = sorted(map(abs, values))
    chosen = _scale(ordered[len(ordered) // 2], units)
    least = next((value for value in ordered if value), 0.0)
    smaller = [one for one in units if one[0] <= chosen[0] and least >= 1e-3 * one[0]]
    return smaller[-1] if smaller else chosen


def signed_duration(ns: float) -> str:
    """A difference of durations, with its sign."""
    return f"{'−' if ns < 0 else '+'}{duration(abs(ns))}"


def duration_interval(low_ns: float | None, high_ns: float | None) -> str:
    """Both ends in the unit of the upper one, with a digit more than a duration has: intervals are narrow."""
    if low_ns is None or high_ns is None:
        return ABSENT
    size, unit = _scale(high_ns, _TIME)
    return f"{number(low_ns / size, 4)} … {number(high_ns / size, 4)} {unit}"


def size(count: float | None, digits: int = 3) -> str:
    """Bytes as B, KiB, MiB, GiB or TiB."""
    if count is None:
        return ABSENT
    one, unit = _scale(count, _BYTES)
    if unit == "B":
        return f"{count:,.0f} B"
    return f"{number(count / one, digits)} {unit}"


def rate(tflops: float | None) -> str:
    """TFLOP/s, or GFLOP/s below 0.1 of them."""
    if tflops is None:
        return ABSENT
    return f"{number(tflops)} TFLOP/s" if tflops >= 0.1 else f"{number(tflops * 1e3)} GFLOP/s"


def times(ratio: float | None) -> str:
    """A ratio, as so many times."""
    return ABSENT if ratio is None else f"{number(ratio)}{TIMES}"


def times_interval(low: float | None, high: float | None) -> str:
    """Both ends of a ratio's interval."""
    if low is None or high is None:
        return ABSENT
    return f"{number(low, 4)} … {number(high, 4)}"


def length(tokens: int) -> str:
    """A sequence length: whole multiples of 1024 as k, from 1k on; others with thousands in groups."""
    if tokens >= 2**20 and tokens % 2**20 == 0:
        return f"{tokens // 2**20}M"
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 cell``, ``12 cells``, ``2 processes``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listing(items: list[str], most: int = 4) -> str:
    """Items with commas; of many, the first ones and how many more there are."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most:,} more"


def _scale(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """The largest unit of which the value, rounded for reading, still makes at least one."""
    chosen = units[0]
    for one, name in units:
        if abs(value) >= 0.9995 * one:
            chosen = (one, name)
    return chosen
