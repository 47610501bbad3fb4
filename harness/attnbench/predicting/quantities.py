"""Parse bandwidths and latencies such as 50GB/s, 1Gbit/s and 5us."""

from __future__ import annotations

import re

from attnbench.predicting.model import PredictError
from attnbench.untrusted.printable import shown

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ/]+)")
_RATES = {
    f"{prefix}{unit}/s": factor * size
    for prefix, factor in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))
    for unit, size in (("B", 1.0), ("bit", 0.125))
}
_TIMES = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}


def bytes_per_ns(text: str) -> float:
    """Parse a bandwidth to bytes per nanosecond, which is GB/s.

    Raises:
        PredictError: if it is malformed or zero.
    """
    return _parsed(text, _RATES, "a bandwidth, such as 50GB/s or 1Gbit/s") * 1e-9


def nanoseconds(text: str) -> float:
    """Parse a latency to nanoseconds.

    Raises:
        PredictError: if it is malformed or zero.
    """
    return _parsed(text, _TIMES, "a latency, such as 5us")


def _parsed(text: str, units: dict[str, float], noun: str) -> float:
    match = _QUANTITY.fullmatch(text.strip()) if len(text) < 40 else None
    value = float(match[1]) * units.get(match[2], 0.0) if match else 0.0
    if value <= 0:
        raise PredictError(f"{shown(text)} is not {noun}")
    return value
