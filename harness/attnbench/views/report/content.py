"""What a report says, section by section; page and Markdown read the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.cases.case import CHOICES
from attnbench.views import columns
from attnbench.views.cells import cells_of
from attnbench.views.compare import Comparison, baseline_of, compare_implementations
from attnbench.views.compare_view import means_table
from attnbench.views.document import Column, Heading, Paragraph, Table
from attnbench.views.format import TIMES, count, length, number
from attnbench.views.groups import Grouping, group_cells
from attnbench.views.report.answer import answer_sentence, answer_table, winners_of
from attnbench.views.report.figures import Figure, error_figure, error_table, memory_figure, time_figure
from attnbench.views.report.provenance import provenance_blocks
from attnbench.views.report.style import Mark, marks_of
from attnbench.views.show import status_counts, summary_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group

MOST_CHARTS = 24
"""Charts of one section; a report of a larger sweep says what it leaves out."""
MOST_COMMANDS = 500
"""Commands of one run; every record of the run file has its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Details:
    """What most readers pass over: closed until it is asked for."""

    summary: str
    blocks: Sequence[Heading | Paragraph | Table]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lead:
    """The sentence that a reader should take along."""

    text: str


Block = Heading | Paragraph | Table | Figure | Details | Lead


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report with a permanent anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    marks: Mapping[str, Mark]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One of the runs that the report is of."""

    run: RunFile
    name: str
    """Tells the runs apart; empty where there is only one."""
    cells: Sequence[CellResult]
    grouping: Grouping

    def title(self, group: Group) -> str:
        """A group's name in the whole report."""
        own = group.label or self.grouping.common
        return f"{self.name}: {own}" if self.name else own


def report_of(runs: Sequence[RunFile]) -> Report:
    """Everything that the report of these runs says."""
    sources = _sources(runs)
    names = list(dict.fromkeys(run.header.scenario_name for run in runs))
    measured = [cell for source in sources for cell in source.cells if cell.timing or cell.error_ratio is not None]
    marks = marks_of(cell.implementation for cell in measured)
    return Report(
        title=" and ".join(names),
        subtitle=f"Attention benchmark, {', '.join(dict.fromkeys(run.header.created_at[:10] for run in runs))}",
        marks=marks,
        sections=[
            Section(anchor="answer", title="Which is fastest", blocks=_answer(sources)),
            Section(anchor="run", title="What was run", blocks=_what_was_run(sources)),
            Section(anchor="agreement", title="Agreement", blocks=_agreement(sources, marks)),
            Section(anchor="time", title="Time", blocks=_charts(sources, marks, "time", time_figure)),
            Section(anchor="memory", title="Memory", blocks=_charts(sources, marks, "memory", memory_figure)),
            Section(anchor="speedup", title="Speed-up", blocks=_speedups(sources)),
            Section(anchor="failures", title="Failures and refusals", blocks=_failures(sources)),
            Section(anchor="provenance", title="Provenance", blocks=_provenance(sources)),
            Section(anchor="repeat", title="How to repeat a cell", blocks=_repeat(sources)),
        ],
    )


def _sources(runs: Sequence[RunFile]) -> list[Source]:
    stems = ["standard input" if run.path == "-" else Path(run.path).stem for run in runs]
    if len(set(stems)) < len(stems):
        stems = [f"{stem} ({run.header.run_id})" for stem, run in zip(stems, runs, strict=True)]
    found = []
    for run, stem in zip(runs, stems, strict=True):
        cells = cells_of(run)
        found.append(Source(run=run, name=stem if len(runs) > 1 else "", cells=cells, grouping=group_cells(cells)))
    return found


def _named(source: Source) -> list[Block]:
    """A heading with the run's name, where there are several."""
    return [Heading(text=source.name, level=3)] if source.name else []


def _answer(sources: Sequence[Source]) -> list[Block]:
    winners = [winner for source in sources for group in source.grouping.groups for winner in winners_of(group)]
    groups = [(source.title(group), group) for source in sources for group in source.grouping.groups]
    blocks: list[Block] = [Lead(text=answer_sentence(winners))]
    judged = error_table(cell for source in sources for cell in source.cells)
    if not winners and judged.rows:
        blocks.append(Lead(text=_agreement_sentence(judged)))
    not_ok = [cell for source in sources for cell in source.cells if cell.status != "ok"]
    if not_ok:
        total = sum(len(source.cells) for source in sources)
        blocks.append(Paragraph(text=f"{len(not_ok):,} of {count(total, 'cell')} are not ok: {status_counts(not_ok)}."))
    blocks += [Paragraph(text=f"{warning}.") for source in sources for warning in source.run.warnings]
    if winners:
        blocks.append(answer_table(groups))
        blocks.append(
            Paragraph(
                text="Within noise: the interval of the ratio of the two times holds 1, or, with fewer than six "
                "processes for each cell, a lead of less than 2 %."
            )
        )
    return blocks


def _what_was_run(sources: Sequence[Source]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        header = source.run.header
        blocks += _named(source)
        said = str(header.scenario.get("description") or "")
        blocks += [Paragraph(text=line) for line in (said, *summary_lines(source.run, source.cells)) if line]
        if source.grouping.common:
            blocks.append(Paragraph(text=f"All cases: {source.grouping.common}."))
    return blocks


def _charts(
    sources: Sequence[Source],
    marks: Mapping[str, Mark],
    noun: str,
    figure: Callable[[str, str, Group, Mapping[str, Mark]], Figure | None],
) -> list[Block]:
    """A chart for each group in which anything was measured."""
    blocks: list[Block] = []
    drawn, left_out = 0, []
    for source in sources:
        for group in source.grouping.groups:
            name = source.title(group)
            found = figure(f"{noun}-{drawn + 1}", name, group, marks) if drawn < MOST_CHARTS else None
            if found is not None:
                blocks.append(found)
                drawn += 1
            elif drawn >= MOST_CHARTS:
                left_out.append(name)
    if left_out:
        more = count(len(left_out), "more group")
        blocks.append(Paragraph(text=f"{more} of cases are not drawn here; attnbench show lists all of them."))
    return blocks or [Paragraph(text=f"No {noun} was measured: either the run was not asked to, or no cell is ok.")]


def _agreement(sources: Sequence[Source], marks: Mapping[str, Mark]) -> list[Block]:
    cells = [cell for source in sources for cell in source.cells]
    table = error_table(cells)
    if not table.rows:
        return [Paragraph(text="No output was judged.")]
    blocks: list[Block] = [
        Lead(text=_agreement_sentence(table)),
        Paragraph(
            text="Outputs are judged against an answer in float64. The budget follows from the dtype; "
            "up to 1 an error is what rounding explains, above 1 the cell is wrong and its time does not count."
        ),
        table,
    ]
    for index, dtype in enumerate(name for name in CHOICES["dtype"] if any(cell.case.dtype == name for cell in cells)):
        figure = error_figure(f"agreement-{index + 1}", dtype, [c for c in cells if c.case.dtype == dtype], marks)
        blocks += [figure] if figure else []
    return blocks


def _agreement_sentence(table: Table) -> str:
    """How many cells are wrong, and the worst error of all."""
    wrong, judged = sum(row["wrong"] for row in table.rows), sum(row["judged"] for row in table.rows)
    said = f"Of {count(judged, 'judged cell')}, {wrong or 'none'} {'are' if wrong > 1 else 'is'} wrong."
    known = [row for row in table.rows if row["worst"] is not None]
    if not known:
        return said
    worst = max(known, key=lambda row: row["worst"])
    where = f"{worst['implementation']} in {worst['dtype']}"
    return f"{said} The worst error is {number(worst['worst'])} of its budget: {where}."


def _speedups(sources: Sequence[Source]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        blocks += _named(source)
        blocks += _speedups_of(source)
    return blocks


def _speedups_of(source: Source) -> list[Block]:
    chosen = baseline_of(source.run.header, source.cells)
    why = "the scenario's baseline"
    if chosen is None:
        chosen = most_timed(source.cells)
        why = "which has a time in the most cases: the scenario names no baseline that was run"
    if chosen is None:
        return [Paragraph(text="Nothing was timed, so there is no speed-up.")]
    comparison = compare_implementations(source.run, chosen)
    if not comparison.pairs:
        return [Paragraph(text=f"No other implementation has a time in a case in which {chosen} has one.")]
    blocks: list[Block] = [
        Lead(text=f"Speed-ups are over {chosen}, {why}. Above 1 is faster."),
        means_table(comparison),
        *(Paragraph(text=note) for note in comparison.notes if note not in source.run.warnings),
    ]
    return [*blocks, *_speedup_tables(source, comparison, chosen)]


def most_timed(cells: Sequence[CellResult]) -> str | None:
    """The implementation with a time in the most cases; of several, the first by name."""
    timed: dict[str, int] = {}
    for cell in cells:
        if cell.timing is not None:
            timed[cell.implementation] = timed.get(cell.implementation, 0) + 1
    return min(timed, key=lambda name: (-timed[name], name)) if timed else None


def _speedup_tables(source: Source, comparison: Comparison, baseline: str) -> list[Block]:
    """A table for each group: a line for each length, a column for each implementation."""
    pairs = {pair.subject.key: pair for pair in comparison.pairs}
    names = sorted({pair.subject.implementation for pair in comparison.pairs})
    blocks: list[Block] = []
    for group in source.grouping.groups:
        rows: list[Row] = []
        for tokens in group.lengths:
            row: Row = {"length": tokens}
            for cell in group.at(tokens):
                pair = pairs.get(cell.key)
                gain = "" if pair is None else f"{number(pair.speedup.value)}{TIMES}"
                level = pair is not None and pair.difference == "within noise"
                row[cell.implementation] = (f"≈ {gain}" if level else gain) or cell.status
            rows.append(row)
        if any(cell.key in pairs for cell in group.cells):
            shown = [columns.length_column(group.axis), *(_speedup_column(name) for name in names)]
            blocks.append(Table(columns=shown, rows=rows, title=f"{source.title(group)}: speed-up over {baseline}"))
    return [*blocks, Paragraph(text="≈ marks a difference within noise.")]


def _speedup_column(name: str) -> Column:
    return Column(title=name, text=lambda row: str(row.get(name, "")), is_number=True)


def _failures(sources: Sequence[Source]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        table = columns.reasons(source.cells)
        found: list[Block] = [table] if table.rows else [Paragraph(text="Every cell is ok.")]
        blocks += [*_named(source), *found]
    return blocks


def _provenance(sources: Sequence[Source]) -> list[Block]:
    blocks: list[Block] = []
    for source in sources:
        blocks += _named(source)
        for title, part in provenance_blocks(source.run, source.cells):
            blocks += [Details(summary=title, blocks=[part])] if title else [part]
    return blocks


def _repeat(sources: Sequence[Source]) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(text="Each command runs one cell again, by itself, with the defaults of a run and the same inputs.")
    ]
    for source in sources:
        rows = [
            {
                "cases": f"{group.case_label(cell.case.seqlen_kv) or length(cell.case.seqlen_kv)}",
                "implementation": cell.implementation,
                "status": cell.status,
                "repro": cell.repro,
            }
            for group in source.grouping.groups
            for cell in group.cells
            if cell.status != "unavailable"
        ]
        table = Table(
            columns=[
                Column(title="cases", text=lambda row: str(row["cases"])),
                columns.IMPLEMENTATION,
                columns.STATUS,
                Column(title="command", text=lambda row: str(row["repro"]), is_code=True),
            ],
            rows=rows[:MOST_COMMANDS],
        )
        parts: list[Heading | Paragraph | Table] = [table]
        if len(rows) > MOST_COMMANDS:
            parts.append(Paragraph(text=f"{len(rows) - MOST_COMMANDS:,} more are in the records of {source.run.path}."))
        summary = count(min(len(rows), MOST_COMMANDS), "command")
        blocks += [*_named(source), Details(summary=summary, blocks=parts)]
    return blocks
