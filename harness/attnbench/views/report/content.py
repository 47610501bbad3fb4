"""What a report says, section by section; page and Markdown read the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.units import count, length
from attnbench.views import columns
from attnbench.views.cells import cells_of
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.groups import group_cells
from attnbench.views.report.blocks import (
    Block,
    Details,
    Explorer,
    Export,
    Part,
    ReportedRun,
    ReportPage,
    Section,
    is_large,
    named,
)
from attnbench.views.report.charts.style import marks_of
from attnbench.views.report.page_data import points_of
from attnbench.views.report.sections.agreement import agreement_blocks, agreement_numbers
from attnbench.views.report.sections.memory import budget_numbers, memory_blocks
from attnbench.views.report.sections.provenance import differences_blocks, provenance_blocks
from attnbench.views.report.sections.roofline import roofline_blocks
from attnbench.views.report.sections.scaling import growth_of, scaling_blocks
from attnbench.views.report.sections.timing import speedup_blocks, time_blocks
from attnbench.views.report.sections.winners import answer_blocks
from attnbench.views.show import summary_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.document import Row

MOST_COMMANDS = 500
"""Commands of one run; every record of the run file has its own."""


def report_of(runs: Sequence[RunFile], baseline: str | None = None) -> ReportPage:
    """Everything that the report of these runs says.

    Args:
        runs: at least one.
        baseline: what speed-ups are over, in those runs that have it; default each scenario's.
    """
    sources = _sources(runs)
    names = list(dict.fromkeys(run.header.scenario_name for run in runs))
    measured = [cell for source in sources for cell in source.cells if cell.timing or cell.metrics.errors]
    marks = marks_of(cell.implementation for cell in measured)
    growth = growth_of(sources)
    answer, winners = answer_blocks(sources)
    times, samples = time_blocks(sources, marks)
    speedups, speedup_numbers = speedup_blocks(sources, baseline)
    laws, law_numbers = scaling_blocks(growth, marks)
    cells: list[Row] = [{"run": source.run.path, **cell.numbers()} for source in sources for cell in source.cells]
    return ReportPage(
        title=" and ".join(names),
        subtitle=f"Attention benchmark, {', '.join(dict.fromkeys(run.header.created_at[:10] for run in runs))}",
        marks=marks,
        sections=[
            Section(anchor="answer", title="Which is fastest", blocks=answer),
            *_explorer(sources),
            Section(anchor="run", title="What was run", blocks=_what_was_run(sources)),
            Section(anchor="failures", title="Failures and refusals", blocks=_failures(sources)),
            Section(anchor="time", title="Time", blocks=times),
            Section(anchor="speedup", title="Speed-up", blocks=speedups),
            Section(anchor="memory", title="Memory", blocks=memory_blocks(sources, marks, growth)),
            Section(anchor="scaling", title="Scaling laws", blocks=laws),
            Section(anchor="roofline", title="Roofline", blocks=roofline_blocks(sources, marks)),
            Section(anchor="agreement", title="Agreement", blocks=agreement_blocks(sources, marks)),
            Section(anchor="provenance", title="Provenance", blocks=_provenance(sources)),
            Section(anchor="repeat", title="How to repeat a cell", blocks=_repeat(sources)),
        ],
        exports=[
            Export(stem="cells", rows=cells),
            *winners,
            *samples,
            *speedup_numbers,
            *law_numbers,
            budget_numbers(growth),
            agreement_numbers(sources),
        ],
        points=points_of(sources),
    )


def _sources(runs: Sequence[RunFile]) -> list[ReportedRun]:
    stems = ["standard input" if run.path == "-" else Path(run.path).stem for run in runs]
    if len(set(stems)) < len(stems):
        stems = [f"{stem} ({run.header.run_id})" for stem, run in zip(stems, runs, strict=True)]
    found: list[ReportedRun] = []
    first = 0
    for run, stem in zip(runs, stems, strict=True):
        cells = cells_of(run)
        grouping = group_cells(cells)
        name = stem if len(runs) > 1 else ""
        found.append(ReportedRun(run=run, name=name, cells=cells, grouping=grouping, first=first))
        first += len(grouping.groups)
    return found


def _explorer(sources: Sequence[ReportedRun]) -> list[Section]:
    if not is_large(sources):
        return []
    groups = sum(len(source.grouping.groups) for source in sources)
    instead = f"Where scripts run, each of the {groups:,} groups of cases is drawn here when it is chosen; here, "
    instead += "data/cells.csv and data/winners.csv have them."
    return [Section(anchor="explore", title="One group of cases", blocks=[Explorer(instead=instead)])]


def _what_was_run(sources: Sequence[ReportedRun]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        header = source.run.header
        blocks += named(source)
        said = str(header.scenario.get("description") or "")
        blocks += [Paragraph(text=line) for line in (said, *summary_lines(source.run, source.cells)) if line]
        if source.grouping.common:
            blocks.append(Paragraph(text=f"All cases: {source.grouping.common}."))
    return blocks


def _failures(sources: Sequence[ReportedRun]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        table = columns.reasons(source.cells)
        found: list[Block] = [table] if table.rows else [Paragraph(text="Every cell is ok.")]
        blocks += [*named(source), *found]
    return blocks


def _provenance(sources: Sequence[ReportedRun]) -> list[Block]:
    blocks: list[Block] = differences_blocks(sources)
    for source in sources:
        blocks += named(source)
        for title, part in provenance_blocks(source.run, source.cells):
            blocks += [Details(summary=title, blocks=[part])] if title else [part]
    return blocks


def _repeat(sources: Sequence[ReportedRun]) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(text="Each command runs one cell again, by itself, with the defaults of a run and the same inputs.")
    ]
    for source in sources:
        blocks += [*named(source), _commands(source)]
    return blocks


def _commands(source: ReportedRun) -> Block:
    shown, left = 0, 0
    parts: list[Block] = []
    for group in source.grouping.groups:
        rows: list[Row] = [
            {
                "cases": group.case_label(cell.case.seqlen_kv) or length(cell.case.seqlen_kv),
                "implementation": cell.implementation,
                "status": cell.status,
                "repro": cell.repro,
            }
            for cell in group.cells
            if cell.status != "unavailable"
        ]
        kept = rows[: MOST_COMMANDS - shown]
        shown, left = shown + len(kept), left + len(rows) - len(kept)
        if kept:
            parts.append(Part(facets=source.facets(group), blocks=[Table(columns=_COMMAND_COLUMNS, rows=kept)]))
    if left:
        parts.append(Paragraph(text=f"{left:,} more are in the records of {source.run.path}."))
    return Details(summary=count(shown, "command"), blocks=parts)


_COMMAND_COLUMNS = [
    Column(title="cases", text=lambda row: str(row["cases"])),
    columns.IMPLEMENTATION,
    columns.STATUS,
    Column(title="command", text=lambda row: str(row["repro"]), is_code=True),
]
