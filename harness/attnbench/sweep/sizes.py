"""Sizes such as 128, 1k, 128k and 1m, and ranges of doublings such as 128..16k."""

from __future__ import annotations

import re

SIZE = "[0-9]+[kKmM]?"
RANGE = rf"{SIZE}\.\.{SIZE}"

_LONGEST = 100
"""In characters. No real size is longer, and Python converts at most 4300 digits to an integer."""
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_SIZE = re.compile(r"([0-9]+)([kKmM]?)")
_RANGE = re.compile(rf"({SIZE})\.\.({SIZE})")


def parse_size(text: str) -> int | None:
    """Parse a size: ``1k`` is 1024, ``1m`` is 1048576; ``None`` for any other text."""
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    return int(match[1]) * _UNITS[match[2].lower()] if match else None


def parse_range(text: str) -> list[int] | None:
    """Parse a range: ``128..1k`` is 128, 256, 512, 1024; ``None`` for any other text.

    Raises:
        ValueError: if doubling the first size does not reach the last.
    """
    match = _RANGE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return None
    first, last = parse_size(match[1]), parse_size(match[2])
    assert first is not None
    assert last is not None
    sizes = [first]
    while 0 < sizes[-1] < last:
        sizes.append(2 * sizes[-1])
    if sizes[-1] != last:
        raise ValueError(f"{text!r} is no range: doubling {match[1]} does not reach {match[2]}")
    return sizes
