"""Curves on logarithmic axes as text, for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.units import length

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WIDTH, _HEIGHT = 60, 14
_BESIDE = 6
"""The most letters that are placed side by side because they would fall on the same place."""


def log_plot(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    unit: Callable[[float], str],
    *,
    width: int = _WIDTH,
    height: int = _HEIGHT,
) -> str:
    """Draw curves of positive values over positive lengths; the text is empty if there are fewer than two lengths.

    Args:
        curves: points by name. The first 26 are drawn, each with a letter; letters that would fall on the same place
            are placed side by side, the first curve's leftmost.
        unit: formats a value.
        width: characters of the plot itself.
        height: lines of the plot itself.
    """
    drawn = {name: [p for p in points if p[1] > 0] for name, points in list(curves.items())[: len(SIGNS)]}
    points = [point for found in drawn.values() for point in found]
    if len({tokens for tokens, _ in points}) < 2:
        return ""
    left, right = (math.log(end({tokens for tokens, _ in points})) for end in (min, max))
    bottom, top = (math.log(end({value for _, value in points})) for end in (min, max))
    top = top if top > bottom else bottom + 1
    grid = [[" "] * (width + 1 + _BESIDE) for _ in range(height)]
    for sign, found in zip(SIGNS, drawn.values(), strict=False):
        for tokens, value in found:
            across = round((math.log(tokens) - left) / (right - left) * width)
            down = round((top - math.log(value)) / (top - bottom) * (height - 1))
            free = next((i for i in range(across, across + _BESIDE) if grid[down][i] == " "), None)
            if free is not None:
                grid[down][free] = sign
    labels = {row: unit(math.exp(top - (top - bottom) * row / (height - 1))) for row in (0, height // 2, height - 1)}
    margin = max(map(len, labels.values()))
    lines = [
        f"{labels.get(row, ''):>{margin}} {'┤' if row in labels else '│'}{''.join(cells).rstrip()}"
        for row, cells in enumerate(grid)
    ]
    lines.append(f"{'':>{margin}} └{'─' * (width + 1)}")
    lines.append(f"{'':>{margin}}  {_ticks(sorted({tokens for tokens, _ in points}), left, right, width)}")
    legend = [f"{sign} {name}" for sign, name in zip(SIGNS, drawn, strict=False)]
    rest = len(curves) - len(drawn)
    return "\n".join([*lines, "", *_legend(legend, width + margin), *([f"and {rest} more"] if rest > 0 else [])])


def _ticks(lengths: Sequence[int], left: float, right: float, width: int) -> str:
    """Place as many lengths below the axis as fit."""
    line = [" "] * (width + 8)
    free = 0
    for tokens in lengths:
        text = length(tokens)
        at = max(0, round((math.log(tokens) - left) / (right - left) * width) - len(text) // 2)
        if at >= free:
            line[at : at + len(text)] = text
            free = at + len(text) + 2
    return "".join(line).rstrip()


def _legend(entries: Sequence[str], width: int) -> list[str]:
    """Arrange entries in columns."""
    room = max(map(len, entries)) + 2
    across = max(1, width // room)
    return ["".join(f"{e:<{room}}" for e in entries[i : i + across]).rstrip() for i in range(0, len(entries), across)]
