"""Phases as bars of letters, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.profiling.phases import TITLES, Phase
from attnbench.units import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.profile.cases import ProfiledCell

LETTERS = {
    Phase.QK: "Q",
    Phase.EXP: "e",
    Phase.SOFTMAX: "s",
    Phase.PV: "P",
    Phase.PRODUCTS: "#",
    Phase.GRADIENTS: "G",
    Phase.MASK: "m",
    Phase.COPIES: "c",
    Phase.MEMORY: "a",
    Phase.WAITING: ".",
    Phase.DISPATCH: "d",
    Phase.OTHER: "?",
}
SHORT = {
    Phase.QK: "Q K^T",
    Phase.EXP: "exp",
    Phase.SOFTMAX: "softmax",
    Phase.PV: "P V",
    Phase.PRODUCTS: "products",
    Phase.GRADIENTS: "gradients",
    Phase.MASK: "mask",
    Phase.COPIES: "packing",
    Phase.MEMORY: "allocation",
    Phase.WAITING: "waiting",
    Phase.DISPATCH: "dispatch",
    Phase.OTHER: "other",
}
"""Short names without commas, for sentences and labels."""
WIDTH = 60
"""Letters in the longest bar."""


def text_bars(cells: Sequence[ProfiledCell], width: int = WIDTH) -> str:
    """Draw a bar of letters for each cell, and explain the letters below.

    All cells need phases. The longest bar has ``width`` letters, and all bars have the same scale.
    """
    longest = max(total_ns(one) for one in cells)
    margin = max(len(one.name) for one in cells)
    lines = []
    for one in cells:
        times = {phase: time.ns for phase, time in one.phases.items()}
        lines.append(f"{one.name:<{margin}} {_bar(times, longest, width)} {duration(one.cell.median_ns)}")
    used = [phase for phase in Phase if any(phase in one.phases for one in cells)]
    legend = [f"{LETTERS[phase]} {TITLES[phase]}" for phase in used]
    return "\n".join([*lines, "", *_filled(legend, margin + width)])


def total_ns(one: ProfiledCell) -> float:
    """Return the sum of a cell's phases."""
    return sum(time.ns for time in one.phases.values())


def _bar(times: Mapping[Phase, float], longest: float, width: int) -> str:
    """Draw phases in the order of :class:`Phase`.

    Ends are rounded instead of lengths, so that the whole bar is as long as it should be.
    """
    bar, until = "", 0.0
    for phase in Phase:
        until += times.get(phase, 0.0)
        bar += LETTERS[phase] * (round(until / longest * width) - len(bar) if longest else 0)
    return bar


def _filled(entries: Sequence[str], width: int) -> list[str]:
    lines = [""]
    for entry in entries:
        joined = f"{lines[-1]}   {entry}" if lines[-1] else entry
        if len(joined) > width and lines[-1]:
            lines.append(entry)
        else:
            lines[-1] = joined
    return lines
