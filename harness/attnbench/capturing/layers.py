"""Short forms of lists of layer names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attnbench.units import count

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = re.compile(r"(\d+)")


def in_short(layers: Sequence[str]) -> str:
    """Merge names that differ in numbers, such as ``model.layers.0…11.self_attn``; only the first group is named."""
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for layer in layers:
        parts = _NUMBERS.split(layer)
        alike.setdefault(tuple(parts[::2]), []).append(parts)
    first = next(iter(alike.values()))
    more = len(layers) - len(first)
    return _together(first) + (f" and {count(more, 'other')}" if more else "")


def _together(parts: Sequence[Sequence[str]]) -> str:
    """Merge names that differ only in numbers; each is given as alternating texts and numbers."""
    return "".join(same[0] if len({*same}) == 1 else _range(same) for same in zip(*parts, strict=True))


def _range(numbers: Sequence[str]) -> str:
    found = sorted({int(number) for number in numbers})
    if len(found) == found[-1] - found[0] + 1:
        return f"{found[0]}…{found[-1]}"
    return ",".join(map(str, found)) if len(found) <= 8 else f"{found[0]},{found[1]},…,{found[-1]}"
