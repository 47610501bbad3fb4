"""The answer first: which implementation is the fastest where, by how much, and where noise leaves it open."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from attnbench.views.document import Column, Table
from attnbench.views.estimates import clearly_faster, ratio
from attnbench.views.format import count, duration, length, listing, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Winner:
    """Who is fastest in one case on one device."""

    tokens: int
    names: tuple[str, ...]
    """The fastest; behind it those which noise does not tell from it."""
    time_ns: float
    runner_up: str | None
    """The fastest of those that are clearly slower."""
    lead: float | None
    """The runner-up's time over the fastest one's."""


def winners_of(group: Group) -> list[Winner]:
    """The winner at each length of a group at which anything was timed."""
    found = []
    for tokens in group.lengths:
        timed = [cell for cell in group.at(tokens) if cell.timing is not None]
        if timed:
            found.append(_winner(tokens, timed))
    return found


def _winner(tokens: int, timed: Sequence[CellResult]) -> Winner:
    fastest, *others = sorted(timed, key=lambda cell: (cell.time_ns or 0, cell.implementation))
    assert fastest.timing is not None
    slower = [cell for cell in others if cell.timing is not None and clearly_faster(fastest.timing, cell.timing)]
    level = [cell.implementation for cell in others if cell not in slower]
    next_one = slower[0] if slower else None
    return Winner(
        tokens=tokens,
        names=(fastest.implementation, *level),
        time_ns=fastest.timing.value,
        runner_up=next_one.implementation if next_one else None,
        lead=ratio(next_one.timing, fastest.timing).value if next_one and next_one.timing else None,
    )


def answer_sentence(winners: Sequence[Winner]) -> str:
    """How many cases each implementation wins, and in how many nobody does."""
    if not winners:
        return "Nothing was timed: no cell that is ok has a time."
    wins = collections.Counter(winner.names[0] for winner in winners if len(winner.names) == 1)
    open_cases = sum(1 for winner in winners if len(winner.names) > 1)
    parts = [f"{name} in {n}" for name, n in sorted(wins.items(), key=lambda item: (-item[1], item[0]))]
    said = f"Of {count(len(winners), 'case')}, the fastest is {listing(parts, most=8)}" if parts else ""
    noise = f"in {open_cases} the fastest are within noise of each other" if open_cases else ""
    if said and noise:
        return f"{said}; {noise}."
    return f"{said}." if said else f"Of {count(len(winners), 'case')}, {noise}."


def answer_table(groups: Iterable[tuple[str, Group]]) -> Table:
    """One line for each stretch of lengths over which the same implementations lead.

    Args:
        groups: with the name of each.
    """
    rows = [
        _row(name, group, stretch) for name, group in groups for stretch in _stretches(winners_of(group))
    ]  # fmt: skip
    return Table(
        columns=[
            Column(title="cases", text=lambda row: str(row["cases"])),
            Column(title="seqlen", text=_lengths, is_number=True),
            Column(title="fastest", text=lambda row: str(row["fastest"]), is_implementation=True),
            Column(title="within noise of it", text=lambda row: listing(row["within_noise"]) or ""),
            Column(title="time", text=lambda row: _span([duration(ns) for ns in row["times_ns"]]), is_number=True),
            Column(title="ahead of the next by", text=lambda row: _span([times(lead) for lead in row["leads"]])),
            Column(title="which is", text=lambda row: listing(row["runners_up"], most=3)),
        ],
        rows=rows,
    )


def _stretches(winners: Sequence[Winner]) -> list[list[Winner]]:
    """Neighbouring lengths with the same leaders together."""
    stretches: list[list[Winner]] = []
    for winner in winners:
        if stretches and set(stretches[-1][-1].names) == set(winner.names):
            stretches[-1].append(winner)
        else:
            stretches.append([winner])
    return stretches


def _row(name: str, group: Group, stretch: Sequence[Winner]) -> Row:
    fastest = collections.Counter(winner.names[0] for winner in stretch).most_common(1)[0][0]
    leads = [winner.lead for winner in stretch if winner.lead is not None]
    return {
        "cases": name,
        "axis": group.axis,
        "lengths": [winner.tokens for winner in stretch],
        "fastest": fastest,
        "within_noise": sorted(set(stretch[0].names) - {fastest}),
        "times_ns": [winner.time_ns for winner in stretch],
        "leads": [min(leads), max(leads)] if leads else [],
        "runners_up": list(dict.fromkeys(winner.runner_up for winner in stretch if winner.runner_up)),
    }


def _lengths(row: Row) -> str:
    span = _span([length(tokens) for tokens in row["lengths"]])
    return span if row["axis"] == "seqlen" else f"{span} keys"


def _span(texts: Sequence[str]) -> str:
    """First and last, or the only one."""
    if not texts:
        return ""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} … {texts[-1]}"
