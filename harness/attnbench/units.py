"""Formatting of numbers with units; missing values are shown as a dash."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Unit = Literal[
    "ns", "s", "bytes", "flop", "TFLOP/s", "GB/s", "tokens/s", "%", "ratio", "count", "MHz", "J", "index", "yes/no",
    "text",
]  # fmt: skip
"""Unit of a metric. An index is one of (batch, head, row, column)."""

ABSENT = "—"
TIMES = "\N{MULTIPLICATION SIGN}"

_TIME = ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_BYTES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB"))
_RATE = ((1e-3, "GFLOP/s"), (1.0, "TFLOP/s"))
_FLOP = ((1, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP"))


def shown(value: Any, unit: Unit) -> str:
    """Format a metric's value with its unit for a table; several values are separated by commas."""
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
    """Format a number with ``digits`` significant digits, or all of its integer part, in groups of thousands."""
    if value is None:
        return ABSENT
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals = max(0, decimals - 1)  # 9.996 was rounded to 10.00, which has one decimal too many
    return f"{rounded:,.{decimals}f}"


def duration(ns: float | None, digits: int = 3) -> str:
    """Format nanoseconds as ns, µs, ms or s."""
    if ns is None:
        return ABSENT
    size, unit = _scale(ns, _TIME)
    return f"{number(ns / size, digits)} {unit}"


def common_unit(values: Sequence[float], unit: Literal["ns", "bytes", "TFLOP/s"]) -> tuple[float, str]:
    """Return the unit for a column of durations, sizes or rates, with its factor: that of the median value.

    A smaller unit is chosen if the least value would be below a thousandth.

    Args:
        values: values of the column; at least one.
        unit: unit of the values.
    """
    units: tuple[tuple[float, str], ...] = {"ns": _TIME, "bytes": _BYTES, "TFLOP/s": _RATE}[unit]
    ordered = sorted(map(abs, values))
    chosen = _scale(ordered[len(ordered) // 2], units)
    least = next((value for value in ordered if value), 0.0)
    smaller = [one for one in units if one[0] <= chosen[0] and least >= 1e-3 * one[0]]
    return smaller[-1] if smaller else chosen


def signed_duration(ns: float) -> str:
    """Format a difference of durations, with its sign."""
    return f"{'−' if ns < 0 else '+'}{duration(abs(ns))}"


def duration_interval(low_ns: float | None, high_ns: float | None) -> str:
    """Format an interval in the unit of its upper end, with one more digit than a duration: intervals are narrow."""
    if low_ns is None or high_ns is None:
        return ABSENT
    size, unit = _scale(high_ns, _TIME)
    return f"{number(low_ns / size, 4)} … {number(high_ns / size, 4)} {unit}"


def size(count: float | None, digits: int = 3) -> str:
    """Format bytes as B, KiB, MiB, GiB or TiB."""
    if count is None:
        return ABSENT
    one, unit = _scale(count, _BYTES)
    if unit == "B":
        return f"{count:,.0f} B"
    return f"{number(count / one, digits)} {unit}"


def rate(tflops: float | None) -> str:
    """Format a rate as TFLOP/s, or as GFLOP/s below 0.1 TFLOP/s."""
    if tflops is None:
        return ABSENT
    return f"{number(tflops)} TFLOP/s" if tflops >= 0.1 else f"{number(tflops * 1e3)} GFLOP/s"


def times(ratio: float | None) -> str:
    """Format a ratio with a multiplication sign, such as ``1.25×``."""
    return ABSENT if ratio is None else f"{number(ratio)}{TIMES}"


def times_interval(low: float | None, high: float | None) -> str:
    """Format the ends of a ratio's interval."""
    if low is None or high is None:
        return ABSENT
    return f"{number(low, 4)} … {number(high, 4)}"


def length(tokens: int) -> str:
    """Format a sequence length: multiples of 1024 with k, of 1024² with M, others in groups of thousands."""
    if tokens >= 2**20 and tokens % 2**20 == 0:
        return f"{tokens // 2**20}M"
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """Format a count with its noun: ``1 cell``, ``12 cells``, ``2 processes``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listing(items: list[str], most: int = 4) -> str:
    """Join items with commas; of more than ``most``, show the first ones and the number of others."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most:,} more"


def _scale(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """Return the largest unit in which the value, rounded for display, is at least one."""
    chosen = units[0]
    for one, name in units:
        if abs(value) >= 0.9995 * one:
            chosen = (one, name)
    return chosen
