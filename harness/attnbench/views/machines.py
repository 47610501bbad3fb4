"""Views of several kinds of machines: each on its own, or compared with each other."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.units import count, listing, times, times_interval
from attnbench.views import columns
from attnbench.views.answer.winners import Winner, winner_of
from attnbench.views.cells import cells_of
from attnbench.views.compare_view import view_of
from attnbench.views.document import Block, Column, Heading, Paragraph, Table, View, column
from attnbench.views.estimates import as_fields, clearly_faster, ratio
from attnbench.views.groups import group_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult
    from attnbench.views.compare import Comparison
    from attnbench.views.document import Row
    from attnbench.views.estimates import CellTiming


def on_each(runs: Sequence[RunFile], view: Callable[[RunFile], View]) -> View:
    """Return the view of the only machine, or the views of several in sequence, with the machine in each row."""
    if len(runs) == 1:
        return view(runs[0])
    views = [view(run) for run in runs]
    blocks: list[Block] = []
    for run, one in zip(runs, views, strict=True):
        blocks += [Heading(text=f"On {run.machine}", level=1), *one.blocks]
    rows = [
        {"machine": run.machine, "machine_key": run.header.machine_key, **row}
        for run, one in zip(runs, views, strict=True)
        for row in one.rows
    ]
    facts = {"kind": views[0].facts.get("kind"), "machines": [dict(one.facts) for one in views]}
    return View(blocks=blocks, rows=rows, facts=facts)


def comparison_view(comparisons: Sequence[tuple[RunFile, Comparison]]) -> View:
    """Show speed-ups within each kind of machine."""
    found = {run.header.machine_key: comparison for run, comparison in comparisons}
    return on_each([run for run, _ in comparisons], lambda run: view_of(found[run.header.machine_key]))


def across_view(runs: Sequence[RunFile], comparisons: Sequence[Comparison]) -> View:
    """Compare machines: the fastest implementation of each case at each place, then each machine over the first."""
    said, table = across_machines(places_of((run.machine or run.name, cells_of(run)) for run in runs))
    blocks: list[Block] = [Heading(text="Which machine, which implementation", level=1), Paragraph(text=said)]
    blocks += [] if table is None else [table]
    blocks += [block for comparison in comparisons for block in view_of(comparison).blocks]
    return View(blocks=blocks, rows=table.rows if table else [], facts={"kind": "machines", "sentence": said})


@dataclasses.dataclass(frozen=True)
class Place:
    """One device of one kind of machine, with the cells that were timed there."""

    name: str
    cells: Sequence[CellResult]


@dataclasses.dataclass(frozen=True)
class _Best:
    """The fastest implementation of a case at one place."""

    place: str
    winner: Winner
    timing: CellTiming


def places_of(machines: Iterable[tuple[str, Sequence[CellResult]]]) -> list[Place]:
    """Return the places at which something was timed, from each machine's name and cells."""
    found: list[Place] = []
    for name, cells in machines:
        timed = [cell for cell in cells if cell.timing is not None]
        devices = dict.fromkeys(cell.device for cell in timed)
        for device in devices:
            title = f"{name}, {device}" if len(devices) > 1 else name
            found.append(Place(title, [cell for cell in timed if cell.device == device]))
    return found


def across_machines(places: Sequence[Place]) -> tuple[str, Table | None]:
    """Find the fastest machine and implementation for each case that several places have timed.

    Returns:
        A sentence, and a table with a row for each case at each place, the fastest place of a case first, or ``None``
        if there is no such case.
    """
    bests = _bests(places)
    labels = _labels(places)
    shared = {case_id: found for case_id, found in bests.items() if len(found) > 1}
    rows = [row for case_id in labels if case_id in shared for row in _rows(labels[case_id], shared[case_id])]
    return _sentence(shared, len(bests) - len(shared)), _table(rows) if rows else None


def _bests(places: Sequence[Place]) -> dict[str, list[_Best]]:
    """Return each place's fastest implementation by case, the fastest place first."""
    found: dict[str, list[_Best]] = {}
    for place in places:
        for case_id, cells in grouped(place.cells, lambda cell: cell.case_id).items():
            winner = winner_of(cells[0].case.seqlen_kv, cells)
            timing = next(cell.timing for cell in cells if cell.implementation == winner.names[0])
            assert timing is not None
            found.setdefault(case_id, []).append(_Best(place.name, winner, timing))
    return {case_id: sorted(ones, key=lambda one: one.timing.value) for case_id, ones in found.items()}


def _labels(places: Sequence[Place]) -> dict[str, str]:
    """Return the label of each case, in the order of their groups."""
    first = {cell.case_id: dataclasses.replace(cell, device="") for place in places for cell in place.cells}
    groups = group_cells(first.values()).groups
    return {cell.case_id: group.case_label(cell.case.seqlen_kv) for group in groups for cell in group.cells}


def _sentence(shared: dict[str, list[_Best]], alone: int) -> str:
    said = []
    if shared:
        clear = [first for first, second, *_ in shared.values() if clearly_faster(first.timing, second.timing)]
        often = collections.Counter(f"{one.place} with {one.winner.names[0]}" for one in clear).most_common()
        parts = [f"{who} in {n:,}" for who, n in often]
        level = len(shared) - len(clear)
        parts += [f"two machines within noise of each other in {level:,}"] if level else []
        said.append(f"Of {count(len(shared), 'case')} that several machines timed, the fastest is {listing(parts)}.")
    if alone:
        said.append(f"{count(alone, 'case was', 'cases were')} timed on one machine alone.")
    return " ".join(said) or "Nothing was timed."


def _rows(label: str, found: Sequence[_Best]) -> list[Row]:
    return [
        {
            "case": label,
            "machine": one.place,
            "implementation": one.winner.names[0],
            "within_noise": list(one.winner.names[1:]),
            "time_median_ns": one.timing.value,
            **as_fields("over_fastest", None if one is found[0] else ratio(one.timing, found[0].timing)),
        }
        for one in found
    ]


def _table(rows: Sequence[Row]) -> Table:
    return Table(
        columns=[
            column("case"),
            column("machine"),
            columns.IMPLEMENTATION,
            Column(title="within noise of it", text=lambda row: listing(row["within_noise"]) or ""),
            columns.TIME,
            Column(title="over the fastest machine's", text=lambda row: times(row["over_fastest"]), is_number=True),
            Column(
                title="interval",
                text=lambda row: times_interval(row["over_fastest_low"], row["over_fastest_high"]),
                is_number=True,
            ),
        ],
        rows=rows,
    )
