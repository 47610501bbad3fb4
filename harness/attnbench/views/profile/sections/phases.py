"""The first section: for each case the answer, the bars, the table and the differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import TIMES, number, times
from attnbench.views.document import Column, Heading, Paragraph, Table, column
from attnbench.views.profile.answer import rows_of, without_table
from attnbench.views.profile.differences import difference_table, differences_of
from attnbench.views.profile.line_differences import line_table
from attnbench.views.profile.sections.chart import phase_bars
from attnbench.views.profile.sentences import answer, conditions
from attnbench.views.report.blocks import Details, Figure, Lead, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.profile.cases import ProfiledCase, ProfiledCell
    from attnbench.views.report.blocks import Block


def section(cases: Sequence[ProfiledCase]) -> Section:
    """Return the section of all cases' phases."""
    blocks: list[Block] = []
    for number_of, case in enumerate(cases, start=1):
        blocks += [Heading(text=case.label, level=3)] if len(cases) > 1 else []
        blocks += _case(case, number_of)
    return Section(anchor="phases", title="Phases", blocks=blocks)


def _case(case: ProfiledCase, number_of: int) -> list[Block]:
    differences = differences_of(case)
    blocks: list[Block] = [Lead(text=one.sentence) for one in differences]
    blocks += [Paragraph(text=answer(one)) for one in case.profiled]
    if case.profiled:
        blocks += [_figure(case, number_of)]
    for one in differences:
        summary = f"{one.slow.name} less {one.fast.name}, phase by phase"
        blocks.append(Details(summary=summary, blocks=[difference_table(one)]))
        if lines := line_table(one):
            summary = f"{one.slow.name} less {one.fast.name}, line by line"
            blocks.append(Details(summary=summary, blocks=[lines]))
    if case.without:
        blocks += [Heading(text="Without a profile", level=3), without_table(case.without)]
    return blocks + [Paragraph(text=conditions(one)) for one in case.profiled]


def _figure(case: ProfiledCase, number_of: int) -> Figure:
    return Figure(
        stem=f"phases-{number_of}",
        title=f"where the time of a call goes: {case.label}",
        alt=f"A bar of phases for each implementation. {' '.join(map(answer, case.profiled))}",
        drawing=phase_bars(case.profiled),
        table=_table(case.profiled),
        note="The dark line below a phase is its floor: the least time that this machine's measured peaks allow.",
    )


def _table(cells: Sequence[ProfiledCell]) -> Table:
    """Return a row for each phase of each cell; the page's filter hides phases."""
    return Table(
        columns=[
            column("cell"),
            Column(title="phase", text=lambda row: row["implementation"], is_implementation=True),
            column("time", "ns", unit="ns"),
            Column(title="share", text=lambda row: f"{number(100 * row['share'], 2)} %", is_number=True),
            column("from", "low_ns", unit="ns"),
            column("to", "high_ns", unit="ns"),
            column("floor", "floor_ns", unit="ns"),
            Column(title=f"{TIMES} floor", text=lambda row: times(row["times_floor"]), is_number=True),
        ],
        rows=[{**row, "cell": one.name, "implementation": row["title"]} for one in cells for row in rows_of(one)],
    )
