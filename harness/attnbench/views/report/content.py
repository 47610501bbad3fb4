"""The content of a report by section, for the page and Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.store.machines import by_machine
from attnbench.units import listing
from attnbench.views.cells import cells_of
from attnbench.views.groups import group_cells
from attnbench.views.report.blocks import Export, ReportedRun, ReportPage
from attnbench.views.report.charts.marks import marks_of
from attnbench.views.report.material import Material
from attnbench.views.report.page_data import points_of
from attnbench.views.report.sections.about import conditions, failures, provenance, ranks, repeat, run
from attnbench.views.report.sections.results import (
    agreement,
    answer,
    explore,
    memory,
    over_commits,
    roofline,
    scaling,
    serving,
    time,
)
from attnbench.views.report.sections.results.comparing import density, machines, speedup, winners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.history.store import History
    from attnbench.store.reader import RunFile

SECTIONS = (
    answer.section,
    winners.section,
    machines.section,
    explore.section,
    time.section,
    over_commits.section,
    speedup.section,
    density.section,
    serving.section,
    memory.section,
    scaling.section,
    roofline.section,
    ranks.section,
    agreement.section,
    run.section,
    conditions.section,
    failures.section,
    provenance.section,
    repeat.section,
)
"""The sections in page order. Each function returns its section, or ``None`` if it has no content."""


def report_of(
    runs: Sequence[RunFile],
    baseline: str | None = None,
    history: History | None = None,
    *,
    across_machines: bool = False,
) -> ReportPage:
    """Return the whole report of these runs; the arguments are those of :func:`write_report`."""
    sources = sources_of(runs)
    names = list(dict.fromkeys(one.header.scenario_name for one in runs))
    measured = [cell for source in sources for cell in source.cells if cell.timing or cell.errors]
    material = Material(
        sources=sources,
        marks=marks_of(cell.implementation for cell in measured),
        baseline=baseline,
        across_machines=across_machines,
        history=history,
    )
    sections = [section for make in SECTIONS if (section := make(material)) is not None]
    cells = ({"run": source.run.name, **cell.numbers()} for source in sources for cell in source.cells)
    return ReportPage(
        title=" and ".join(names),
        subtitle=_subtitle([source.run for source in sources]),
        marks=material.marks,
        sections=sections,
        exports=[Export(stem="cells", rows=cells), *(one for section in sections for one in section.exports)],
        points=points_of(sources),
    )


def _subtitle(runs: Sequence[RunFile]) -> str:
    """Name the machines and the dates."""
    on = dict.fromkeys(name for one in runs for name in one.header.machines)
    when = dict.fromkeys(one.header.created_at[:10] for one in runs)
    return f"Attention on {listing(list(on))}, {listing(list(when))}"


def sources_of(runs: Sequence[RunFile]) -> list[ReportedRun]:
    """Return each run, split by kind of machine, with grouped cells and a unique name."""
    runs = [one for run in runs for one in by_machine(run)]
    stems = ["standard input" if one.path == "-" else Path(one.path).stem for one in runs]
    names = [(stem, one.machine) for stem, one in zip(stems, runs, strict=True)]
    if len(set(names)) < len(names):
        stems = [f"{stem} ({one.header.run_id})" for stem, one in zip(stems, runs, strict=True)]
    found: list[ReportedRun] = []
    first = 0
    for one, stem in zip(runs, stems, strict=True):
        cells = cells_of(one)
        grouping = group_cells(cells)
        name = f"{stem}: {one.machine}" if one.machine else stem if len(runs) > 1 else ""
        found.append(ReportedRun(run=one, name=name, cells=cells, grouping=grouping, first=first))
        first += len(grouping.groups)
    return found
