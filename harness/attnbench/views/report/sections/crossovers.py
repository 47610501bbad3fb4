"""Who overtakes whom, and at which length: crossovers of the curves of time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.scaling import crossovers
from attnbench.units import count
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.estimates import EXACT, UNSEEN, ratio
from attnbench.views.report.blocks import Block, Details

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.sections.scaling import ScalingCurve


def crossover_rows(found: Sequence[ScalingCurve]) -> list[Row]:
    """Where the time of one implementation passes that of another, in every group."""
    rows: list[Row] = []
    timed = [one for one in found if one.quantity == "time"]
    for _, of_group in itertools.groupby(timed, key=lambda one: (one.source.name, one.group.label)):
        members = list(of_group)
        group, source = members[0].group, members[0].source
        curves: dict[str, dict[int, CellResult]] = {}
        for cell in group.cells:
            if cell.timing is not None:
                curves.setdefault(cell.implementation, {})[cell.case.seqlen_kv] = cell
        for one, other in itertools.combinations(sorted(curves), 2):
            rows += [
                {**source.facets(group), "cases": source.title(group), **row} for row in _meets(curves, one, other)
            ]
    return rows


def _meets(curves: Mapping[str, Mapping[int, CellResult]], one: str, other: str) -> list[Row]:
    shared = sorted(curves[one].keys() & curves[other].keys())
    if len(shared) < 2:
        return []
    gains = []
    for tokens in shared:
        above, below = curves[one][tokens].timing, curves[other][tokens].timing
        assert above is not None
        assert below is not None
        gain = ratio(above, below)
        # Few processes do not tell by how much processes differ.
        room = 1.0 if min(above.processes, below.processes) >= EXACT else UNSEEN
        low, high = (gain.low or gain.value / 2) / room, (gain.high or gain.value * 2) * room
        gains.append((gain.value, low, high))
    found = crossovers(shared, [g[0] for g in gains], [g[1] for g in gains], [g[2] for g in gains])
    return [
        {
            # The ratio is the first one's time over the other's: where it rises, the other one takes over.
            "from": one if meet.rises else other,
            "to": other if meet.rises else one,
            "seqlen": meet.length,
            "seqlen_low": meet.low,
            "seqlen_high": meet.high,
        }
        for meet in found
    ]


def crossover_blocks(rows: Sequence[Row]) -> list[Block]:
    """Their table, or a sentence where there is none."""
    if not rows:
        return [Paragraph(text="No two curves of time cross within the lengths that were measured.")]
    groups = {row["cases"] for row in rows}
    cases = [Column(title="cases", text=lambda row: str(row["cases"]))] if len(groups) > 1 else []
    ordered = sorted(rows, key=lambda row: (row["cases"], row["seqlen"]))
    table = Table(
        columns=[
            *cases,
            Column(title="below it faster", text=lambda row: str(row["from"]), is_implementation=True),
            Column(title="above it faster", text=lambda row: str(row["to"]), is_implementation=True),
            Column(title="seqlen", text=lambda row: f"{row['seqlen']:,.0f}", is_number=True),
            Column(title="95 % interval", text=_meet_text, is_number=True),
        ],
        rows=ordered,
    )
    summary = f"{count(len(rows), 'crossover')}: which becomes faster from which length on"
    return [Details(summary=summary, blocks=[table])]


def _meet_text(row: Row) -> str:
    low, high = row["seqlen_low"], row["seqlen_high"]
    if low is None and high is None:
        return "not settled"
    if low is None:
        return f"up to {high:,.0f}"
    return f"from {low:,.0f} on" if high is None else f"{low:,.0f} … {high:,.0f}"
