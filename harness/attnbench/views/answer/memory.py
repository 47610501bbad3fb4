"""A sentence on memory: the most and the least that implementations take for one case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import length, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.groups import Group

TELLING = 1.5
"""Memory is mentioned if the most is at least this multiple of the least."""


def memory_sentence(groups: Sequence[Group]) -> str | None:
    """Describe the case in which the implementations' peak memory differs most.

    Returns:
        The sentence, or ``None`` if no case has two peaks, or if they differ by less than :data:`TELLING`.
    """
    found: list[tuple[float, int, str, CellResult, CellResult]] = []
    for group in groups:
        for tokens in group.lengths:
            weighed = [cell for cell in group.at(tokens) if cell.metrics.memory_peak_bytes]
            if len(weighed) > 1:
                least, most = min(weighed, key=_peak), max(weighed, key=_peak)
                found.append((_peak(most) / _peak(least), tokens, group.axis, least, most))
    if not found:
        return None
    # Cases in which all take less than a mebibyte count only if there are no others.
    ratio, tokens, axis, least, most = max(found, key=lambda one: (_peak(one[4]) >= 2**20, *one[:2]))
    if ratio < TELLING:
        return None
    return (
        f"Memory of one call at {axis} {length(tokens)}: {size(_peak(most))} for {most.implementation} "
        f"against {size(_peak(least))} for {least.implementation}."
    )


def _peak(cell: CellResult) -> int:
    return cell.metrics.memory_peak_bytes or 0
