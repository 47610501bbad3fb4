"""Sentences that answer a run: which implementation is the fastest and by how much, or how each plug-in compares."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from attnbench.units import count, duration, listing, number, times
from attnbench.views.answer.winners import winners_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.store.record import CellKey
    from attnbench.views.answer.winners import Winner
    from attnbench.views.cells import CellResult
    from attnbench.views.compare import Pair
    from attnbench.views.estimates import Estimate
    from attnbench.views.groups import Group

MOST_SUBJECTS = 4
"""The most plug-ins that sentences name; the table has all."""


@dataclasses.dataclass(frozen=True)
class _Win:
    """A case that one implementation clearly wins."""

    cell: CellResult
    winner: Winner


def run_sentences(run: RunFile, groups: Sequence[Group], pairs: Sequence[Pair]) -> list[str]:
    """Return the sentences that end a run: about its plug-ins if it has any, else about the fastest implementation.

    ``pairs`` holds the cells that have a speed-up.
    """
    cells = [cell for group in groups for cell in group.cells]
    plugins = [cell.implementation for cell in cells if run.header.plugin_of(cell.implementation)]
    return answer_sentences(groups, pairs, pairs[0].reference.implementation if pairs else None, plugins)


def answer_sentences(
    groups: Sequence[Group], pairs: Sequence[Pair], baseline: str | None, plugins: Iterable[str]
) -> list[str]:
    """Return a sentence on the fastest implementation, or one for each plug-in if there are any.

    ``plugins`` are the names of implementations that the user brought along. ``pairs`` are relative to the baseline.
    """
    cells = [cell for group in groups for cell in group.cells]
    winners = [(group, winner) for group in groups for winner in winners_of(group)]
    wins = [
        _Win(cell, winner)
        for group, winner in winners
        if winner.is_clear
        for cell in group.at(winner.tokens)
        if cell.implementation == winner.names[0]
    ]
    gains = {pair.subject.key: pair for pair in pairs}
    subjects = [name for name in dict.fromkeys(plugins) if name != baseline]
    if subjects:
        return [_on(name, cells, wins, gains, baseline) for name in subjects[:MOST_SUBJECTS]]
    timed = [cell for cell in cells if cell.timing]
    if len({cell.implementation for cell in timed}) == 1:
        return [f"{timed[0].implementation} alone has a time: {_taken(timed)}."]
    return [_on_the_fastest([winner for _, winner in winners], wins, gains, baseline)] if winners else []


def _on(
    name: str,
    cells: Sequence[CellResult],
    wins: Sequence[_Win],
    gains: dict[CellKey, Pair],
    baseline: str | None,
) -> str:
    """Describe one implementation: its speed-up over the baseline, cases that it wins, and cells that are not ok."""
    own = [cell for cell in cells if cell.implementation == name]
    several = len(own) > 1
    compared = [gains[cell.key] for cell in own if cell.key in gains]
    level = sum(pair.difference == "within noise" for pair in compared)
    where = f" in {_of(len(compared), len(own))}" if several else ""
    parts = []
    if compared and level == len(compared):
        parts += [f"within noise of {baseline}{where}", f"{_span([pair.speedup for pair in compared])} as fast"]
    elif compared:
        parts.append(f"{_span([pair.speedup for pair in compared])} as fast as {baseline}{where}")
        parts += [f"within noise of it in {level}"] if level else []
    elif timed := [cell for cell in own if cell.timing]:
        parts.append(f"timed at {_taken(timed)}")
    if won := sum(win.cell.implementation == name for win in wins):
        parts.append(f"the fastest in {won}" if several else "the fastest")
    not_ok = collections.Counter(cell.status for cell in own if cell.status != "ok").most_common()
    parts += [f"{status} in {n}" if several else status for status, n in not_ok]
    return f"{name} is {', '.join(parts)}." if parts else f"{name} was not timed."


def _on_the_fastest(
    winners: Sequence[Winner], wins: Sequence[_Win], gains: dict[CellKey, Pair], baseline: str | None
) -> str:
    """Name the implementation that is clearly the fastest most often, its speed-ups, and who wins the other cases."""
    if not wins:
        level = list(dict.fromkeys(name for winner in winners for name in winner.names))
        if len(winners) == 1:
            return f"None is clearly the fastest: {listing(level)} are within noise of each other."
        said = f"None is clearly the fastest in any of {len(winners)} cases"
        return f"{said}: {listing(level)} are within noise of the fastest in some."
    often = collections.Counter(win.cell.implementation for win in wins)
    (name, most), *others = sorted(often.items(), key=lambda one: (-one[1], one[0]))
    own = [win for win in wins if win.cell.implementation == name]
    compared = [gains[win.cell.key].speedup for win in own if win.cell.key in gains]
    said = f"{name} is fastest" + (f" in {_of(most, len(winners))}" if len(winners) > 1 else "")
    if compared:
        said += f": {_span(compared)} as fast as {baseline}"
    elif leads := [win.winner.lead for win in own if win.winner.lead]:
        said += f": {_span(leads)} as fast as the next"
    alone = sum(winner.is_alone for winner in winners)
    counts = {**dict(others), "within noise": len(winners) - len(wins) - alone, "one alone": alone}
    rest = [f"{who} in {n}" for who, n in counts.items() if n]
    return f"{said}; {listing(rest, most=8)}." if rest else f"{said}."


def _span(ratios: Sequence[Estimate]) -> str:
    """Format the least and the greatest of several ratios, or a single one with its interval."""
    low, high = min(ratios, key=lambda one: one.value), max(ratios, key=lambda one: one.value)
    if len(ratios) > 1:
        return f"{number(low.value)} to {times(high.value)}"
    return f"{times(low.value)} ({low.ends})" if low.ends else times(low.value)


def _of(n: int, cases: int) -> str:
    if n == cases:
        return "both cases" if n == 2 else f"all {n} cases"
    return f"{n} of {cases} cases"


def _taken(timed: Sequence[CellResult]) -> str:
    taken = sorted(cell.time_ns or 0.0 for cell in timed)
    if len(taken) == 1:
        return duration(taken[0])
    return f"{duration(taken[0])} to {duration(taken[-1])} in {count(len(taken), 'case')}"
