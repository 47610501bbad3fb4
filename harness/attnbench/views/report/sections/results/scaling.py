"""The section on scaling: the laws of time and memory over the length, and the lengths where curves cross."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.scaling import Refusal, Scaling, crossovers
from attnbench.units import ABSENT, TIMES, count, duration, length, listing, number, size
from attnbench.views import columns
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.estimates import EXACT, UNSEEN, ratio
from attnbench.views.report.blocks import MOST_CHARTS, Block, Contradiction, Details, Export, Figure, Lead, Section
from attnbench.views.report.charts import roofline_chart
from attnbench.views.report.curves import MOST_FITS, QUANTITIES, Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.curves import ScalingCurve
    from attnbench.views.report.material import Material


def section(material: Material) -> Section:
    """Return the scaling laws, implementations that contradict their declarations, and the crossovers."""
    blocks, exports = scaling_blocks(material.curves, material.marks)
    fitted = {(one.source.name, one.group.label) for one in material.curves}
    growing = [
        (source.name, g.label) for source in material.sources for g in source.grouping.groups if len(g.lengths) > 1
    ]
    if len(material.curves) >= MOST_FITS and not fitted.issuperset(growing):
        text = f"Laws are fitted to the curves of the first groups of cases only ({len(material.curves)} curves); "
        blocks.insert(0, Paragraph(text=f"{text}narrow the run."))
    return Section(anchor="scaling", title="Scaling laws", blocks=blocks, exports=exports)


def scaling_blocks(found: Sequence[ScalingCurve], marks: Mapping[str, Mark]) -> tuple[list[Block], list[Export]]:
    """Return the section's blocks and its numbers."""
    meets = crossover_rows(found)
    exports = [Export(stem="scaling", rows=[one.row() for one in found]), Export(stem="crossovers", rows=meets)]
    laws = [one for one in found if isinstance(one.law, Scaling)]
    if not laws:
        reasons = sorted({one.law.reason for one in found if isinstance(one.law, Refusal)})
        why = f": {'; '.join(reasons)}" if reasons else ""
        return [Paragraph(text=f"No law was fitted{why}.")], exports if found else []
    blocks: list[Block] = []
    contradictions = [said for one in found if (said := one.contradiction)]
    blocks += [Contradiction(text=f"{said}.") for said in contradictions]
    declared = [one for one in laws if one.quantity == "memory" and one.declared]
    if declared and not contradictions:
        text = f"No memory exponent contradicts what its implementation declares ({count(len(declared), 'curve')})."
        blocks.append(Lead(text=text))
    blocks += _exponent_figures(laws, marks)
    blocks += _crossover_blocks(meets)
    how = Paragraph(
        text="The exponent k is that of a + b·n^k, fitted to logarithms, so that the floor a (launch, fixed buffers) "
        "stays out of it; up to the length where the two are equal the floor dominates. Where another law is better "
        "supported (AICc), it is named, and k only describes the range. The local exponent is what the last doubling "
        f"did. A cliff is one size, or all from it on, off the law. Intervals: {_methods(laws)}."
    )
    blocks.append(Details(summary=f"The laws of {count(len(found), 'curve')}", blocks=[_law_table(found), how]))
    return blocks, exports


def _methods(laws: Sequence[ScalingCurve]) -> str:
    counted: dict[str, int] = {}
    for one in laws:
        assert isinstance(one.law, Scaling)
        counted[one.law.method] = counted.get(one.law.method, 0) + 1
    said = sorted(counted.items(), key=lambda item: -item[1])
    return listing([f"{method} ({count(n, 'curve')})" for method, n in said], most=3)


def _exponent_figures(laws: Sequence[ScalingCurve], marks: Mapping[str, Mark]) -> list[Block]:
    figures: list[Block] = []
    keyed = itertools.groupby(laws, key=lambda one: (one.source.name, one.group.label))
    for _, of_group in keyed:
        members = list(of_group)
        for quantity in QUANTITIES:
            chosen = [one for one in members if one.quantity == quantity]
            if chosen and len(figures) < MOST_CHARTS:
                figures.append(_exponent_figure(f"scaling-{len(figures) + 1}", chosen, quantity, marks))
    return figures


def _exponent_figure(
    stem: str, chosen: Sequence[ScalingCurve], quantity: Quantity, marks: Mapping[str, Mark]
) -> Figure:
    rows: list[Row] = []
    for one in chosen:
        assert isinstance(one.law, Scaling)
        found = one.law.exponent
        rows.append(
            {
                "implementation": one.implementation,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "at": f"{length(one.law.lengths[0])} … {length(one.law.lengths[-1])}",
                "text": _interval_text(found.value, found.low, found.high),
            }
        )
    ordered = sorted(rows, key=lambda row: row["value"])
    title = f"{chosen[0].source.title(chosen[0].group)}: exponent of {quantity}"
    least, most = ordered[0], ordered[-1]
    return Figure(
        stem=stem,
        title=title,
        alt=f"Exponent of {quantity} over the sequence length with 95 % intervals. Least {least['implementation']} "
        f"{least['text']}, most {most['implementation']} {most['text']}.",
        drawing=roofline_chart.exponents(rows, marks, quantity),
        table=_law_table(chosen),
        facets=chosen[0].source.facets(chosen[0].group),
    )


def _interval_text(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} … {high:.2f})"


def _law_table(found: Sequence[ScalingCurve]) -> Table:
    groups = {(one.source.name, one.group.label) for one in found}
    names = ("exponent, 95 % interval", "declared", "law", "floor", "equal at", "local exponent", "cliffs", "sizes")
    numbers = {"exponent, 95 % interval", "floor", "equal at", "local exponent"}
    cases = [column("cases")] if len(groups) > 1 else []
    laws = [column(name, is_number=name in numbers) for name in names]
    return Table(columns=[*cases, columns.IMPLEMENTATION, column("of"), *laws], rows=[_law_row(one) for one in found])


def _law_row(one: ScalingCurve) -> Row:
    local = one.law.local_exponent
    row: Row = {
        "cases": one.source.title(one.group),
        "implementation": one.implementation,
        "of": one.quantity,
        "declared": (one.declared or ABSENT) if one.quantity == "memory" else "",
        "local exponent": local and _interval_text(local.value, local.low, local.high),
    }
    law = one.law
    if isinstance(law, Refusal):
        absent = dict.fromkeys(("exponent, 95 % interval", "floor", "equal at"))
        return {**row, **absent, "law": law.reason, "cliffs": "", "sizes": ""}
    floor = law.floor and (duration(law.floor.value, 2) if one.quantity == "time" else size(law.floor.value))
    where = {"step": "from", "outlier": "at"}
    cliffs = [f"{where[c.kind]} {length(c.length)} {TIMES}{number(c.factor)}" for c in law.cliffs]
    return {
        **row,
        "exponent, 95 % interval": _interval_text(law.exponent.value, law.exponent.low, law.exponent.high),
        "law": law.law.formula,
        "floor": floor,
        "equal at": law.crossover and f"{law.crossover.value:,.0f}",
        "cliffs": "; ".join(cliffs),
        "sizes": f"{len(law.lengths)} from {length(law.lengths[0])} to {length(law.lengths[-1])}",
    }


def crossover_rows(found: Sequence[ScalingCurve]) -> list[Row]:
    """Return the lengths at which one implementation's time passes another's, in every group."""
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
        # Few processes do not show how much processes differ.
        room = 1.0 if min(above.processes, below.processes) >= EXACT else UNSEEN
        low, high = (gain.low or gain.value / 2) / room, (gain.high or gain.value * 2) * room
        gains.append((gain.value, low, high))
    found = crossovers(shared, [g[0] for g in gains], [g[1] for g in gains], [g[2] for g in gains])
    return [
        {
            # The ratio is the first one's time over the other's: where it rises above 1, the other becomes faster.
            "from": one if meet.rises else other,
            "to": other if meet.rises else one,
            "seqlen": meet.length,
            "seqlen_low": meet.low,
            "seqlen_high": meet.high,
        }
        for meet in found
    ]


def _crossover_blocks(rows: Sequence[Row]) -> list[Block]:
    """Return a table of crossovers, or a sentence if there are none."""
    if not rows:
        return [Paragraph(text="No two curves of time cross within the lengths that were measured.")]
    groups = {row["cases"] for row in rows}
    cases = [column("cases")] if len(groups) > 1 else []
    ordered = sorted(rows, key=lambda row: (row["cases"], row["seqlen"]))
    table = Table(
        columns=[
            *cases,
            column("below it faster", "from", is_implementation=True),
            column("above it faster", "to", is_implementation=True),
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
