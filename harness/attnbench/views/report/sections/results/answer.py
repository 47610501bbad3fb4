"""The first screen: the fastest implementation, charts of time and memory, and gains over the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import ABSENT, count, listing, times
from attnbench.views import columns
from attnbench.views.answer.memory import memory_sentence
from attnbench.views.answer.sentence import run_sentences
from attnbench.views.answer.summary import summary_rows
from attnbench.views.cells import NEVER_RAN
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.report.blocks import Block, Lead, Section
from attnbench.views.report.figures import leading_figures
from attnbench.views.report.sections.results.agreement import agreement_sentence, error_table
from attnbench.views.show import status_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Gains, Material


def section(material: Material) -> Section:
    """Return the answer, for readers who stop here."""
    blocks: list[Block] = []
    for source, gains in zip(material.sources, material.gains, strict=True):
        blocks += _sentences(source, gains)
    blocks += leading_figures(material)
    for source, gains in zip(material.sources, material.gains, strict=True):
        blocks += [_gains(source, gains)] if gains and gains.comparison.pairs else []
        blocks += [Paragraph(text=text) for text in shortfall(source.cells)]
        blocks += [Paragraph(text=f"{warning}.") for warning in source.run.warnings]
    return Section(anchor="answer", title="The answer", blocks=blocks)


def _sentences(source: ReportedRun, gains: Gains | None) -> list[Block]:
    """Return sentences on the fastest implementation and on memory; without times, on agreement."""
    of_run = f"{source.name}: " if source.name else ""
    groups = source.grouping.groups
    fastest = run_sentences(source.run, groups, gains.comparison.pairs if gains else ())
    if not fastest:
        judged = error_table(source.cells)
        said = ["Nothing was timed: no cell that is ok has a time."]
        fastest = [*said, agreement_sentence(judged)] if judged.rows else said
    memory = memory_sentence(groups)
    told: list[Block] = [Lead(text=of_run + sentence) for sentence in fastest]
    return [*told, Paragraph(text=of_run + memory)] if memory else told


def _gains(source: ReportedRun, gains: Gains) -> Table:
    """Return a row for each implementation, the greatest gain first."""
    baseline = gains.baseline.name
    rows = [row for row in summary_rows(source.grouping.groups, gains.comparison.pairs, baseline) if row["speedup"]]
    where = f"{source.name}: who" if source.name else "Who"
    return Table(
        title=f"{where} gains what over {baseline}",
        columns=[
            columns.IMPLEMENTATION,
            Column(
                title="times as fast",
                text=lambda row: times(row["speedup"]),
                is_number=True,
                amount=lambda row: row["speedup"],
            ),
            Column(title="memory", text=lambda row: _more_or_less(row["memory_ratio"]), is_number=True),
            Column(title="cases", text=lambda row: f"{row['timed']:,} of {row['cells']:,}", is_number=True),
        ],
        rows=rows,
    )


def _more_or_less(ratio: float | None) -> str:
    """Say how much more or less memory a ratio means."""
    if ratio is None:
        return ABSENT
    if 0.995 < ratio < 1.005:
        return "the same"
    return f"{times(ratio)} more" if ratio > 1 else f"{times(1 / ratio)} less" if ratio else "none"


def shortfall(cells: Sequence[CellResult]) -> list[str]:
    """Count the cells that failed, and those that cannot run here."""
    failed = [cell for cell in cells if cell.status not in NEVER_RAN and cell.status != "ok"]
    never = [cell for cell in cells if cell.status in NEVER_RAN]
    said = []
    if failed:
        names = listing(sorted({cell.implementation for cell in failed}))
        said.append(
            f"{count(len(failed), 'cell')} failed: {status_counts(failed)} ({names}); the reasons are at the end."
        )
    if never:
        ran = count(len(cells) - len(never), "cell")
        said.append(f"{ran} ran; {len(never):,} more cannot run here ({status_counts(never)}), listed at the end.")
    return said
