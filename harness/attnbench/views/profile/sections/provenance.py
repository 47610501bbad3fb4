"""The provenance of the numbers: the cells, the machine, the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import duration_interval
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.profile.sentences import counters
from attnbench.views.report.blocks import Details, Section
from attnbench.views.report.sections.about.provenance import facts_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.profile import Profile
    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase
    from attnbench.views.report.blocks import Block


def section(profile: Profile, cases: Sequence[ProfiledCase]) -> Section:
    """Return everything that is needed to take the profile again."""
    asked: dict[str, object] = {"command": profile.command, "created": profile.created_utc}
    asked |= {"attnbench": profile.attnbench} | {str(name): side for name, side in profile.sides.items()}
    blocks: list[Block] = [
        Paragraph(text="A profile is no measurement: its times are in no run, and no comparison or gate reads them. "
                  "Medians are from a process without a profiler, and the phases are parts of them."),
        facts_table(asked),
        _cells(cases),
    ]  # fmt: skip
    for case in cases:
        cell = case.cells[0].cell
        fields = {name: value for name, value in cell.case.items() if value is not None}
        table = facts_table({"case": cell.case_id, **fields})
        blocks.append(Details(summary=f"The case {case.label}", blocks=[table]))
    floors = _floors(cases)
    blocks += [Details(summary="How floors are computed", blocks=[floors])] if floors.rows else []
    blocks += [
        Details(summary=title, blocks=[facts_table(facts)])
        for title, facts in (("Machine and software", profile.environment), ("Measured peaks", profile.peaks))
        if facts
    ]
    return Section(anchor="provenance", title="Provenance", blocks=blocks)


def _cells(cases: Sequence[ProfiledCase]) -> Table:
    rows: list[Row] = [
        {
            **vars(one.cell),
            "name": one.name,
            "case": case.label,
            "interval": duration_interval(one.cell.low_ns, one.cell.high_ns),
            "period_ns": one.cell.period_ns or None,
            "counters": counters(one.cell) or one.cell.not_counted or "",
        }
        for case in cases
        for one in case.cells
    ]
    return Table(
        title="How each cell was sampled",
        columns=[
            column("implementation", "name"),
            column("status", is_status=True),
            column("median call", "median_ns", unit="ns"),
            Column(title="95 % interval", text=lambda row: row["interval"], is_number=True),
            column("slow-down while sampled", "slowdown", unit="ratio"),
            column("calls", unit="count"),
            column("samples", unit="count"),
            column("lost", unit="count"),
            column("period", "period_ns", unit="ns"),
            column("kernel sampled", "has_kernel", unit="yes/no"),
            column("compiled with lines", "has_lines", unit="yes/no"),
            column("hardware counters", "counters"),
            column("case"),
        ],
        rows=rows,
    )


def _floors(cases: Sequence[ProfiledCase]) -> Table:
    said = {
        (case.label, time.floor_from): time.floor_ns
        for case in cases
        for one in case.profiled
        for time in one.cell.phases
        if time.floor_from
    }
    rows = [{"case": case, "floor": floor, "from": text} for (case, text), floor in said.items()]
    return Table(columns=[column("floor", unit="ns"), column("from"), column("case")], rows=rows)
