"""The section on time: curves, raw samples, and the cost before the first result."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.units import duration, length, times
from attnbench.views import columns
from attnbench.views.cells import PER_SAMPLE
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.report.blocks import (
    Block,
    Details,
    Export,
    Section,
    Strips,
)
from attnbench.views.report.figures import group_figures, time_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material

MOST_STRIPS = 240
"""The most cells whose raw samples are drawn; every record of the run file has them."""
_STRIP_SAMPLES = 60


def section(material: Material) -> Section:
    """Return charts of time, and the raw samples below them."""
    blocks = group_figures(material, "time", time_figure)
    cells = material.cells
    if any(cell.metrics.time_wall_ns is not None for cell in cells):
        text = (
            "On CUDA the median is the device's time with a cold second-level cache; beside it stand the wall time of "
            "a call and the wait for it, one call of a replayed graph, and what the host needs to launch."
        )
        blocks.append(Paragraph(text=text))
    before = _before_first(cells)
    if before.rows:
        blocks.append(Details(summary="Preparing and the first call", blocks=[before]))
    strips, samples = _strips(material.sources)
    return Section(
        anchor="time", title="Time", blocks=[*blocks, *strips], exports=[Export(stem="samples", rows=samples)]
    )


def _before_first(cells: Sequence[CellResult]) -> Table:
    """Return the cost of each implementation before it runs at full speed: the median and the largest of its cells."""
    known = [cell for cell in cells if (cell.metrics.first_call_ns, cell.metrics.prepare_ns) != (None, None)]
    found = grouped(known, lambda cell: cell.implementation)
    rows = [_before_row(name, of_name) for name, of_name in sorted(found.items())]
    return Table(
        columns=[
            columns.IMPLEMENTATION,
            column("prepare, median", "prepare_ns", unit="ns"),
            column("largest", "prepare_most_ns", unit="ns"),
            column("first call, median", "first_ns", unit="ns"),
            column("largest", "first_most_ns", unit="ns"),
            Column(title="first call / later ones", text=lambda row: times(row["first_over_later"]), is_number=True),
        ],
        rows=rows,
    )


def _before_row(name: str, cells: Sequence[CellResult]) -> Row:
    prepare = [ns for cell in cells if (ns := cell.metrics.prepare_ns) is not None]
    first = [ns for cell in cells if (ns := cell.metrics.first_call_ns) is not None]
    over = [ns / cell.time_ns for cell in cells if (ns := cell.metrics.first_call_ns) is not None and cell.time_ns]
    return {
        "implementation": name,
        "prepare_ns": statistics.median(prepare) if prepare else None,
        "prepare_most_ns": max(prepare, default=None),
        "first_ns": statistics.median(first) if first else None,
        "first_most_ns": max(first, default=None),
        "first_over_later": statistics.median(over) if over else None,
    }


def _strips(sources: Sequence[ReportedRun]) -> tuple[list[Block], list[Row]]:
    """Return raw samples of each group, folded, and as numbers with a row for each process."""
    blocks: list[Block] = []
    rows: list[Row] = []
    drawn, left_out = 0, 0
    for source in sources:
        for group in source.grouping.groups:
            cells = [cell for cell in group.cells if cell.metrics.time_samples_ns]
            if not cells:
                continue
            if drawn + len(cells) > MOST_STRIPS:
                left_out += len(cells)
                continue
            drawn += len(cells)
            blocks.append(_strips_of(source.title(group), cells))
            rows += [row for cell in cells for row in _sample_rows(source, cell)]
    if left_out:
        blocks.append(Paragraph(text=f"Samples of {left_out:,} more cells are in the run file only."))
    if not blocks:
        return [], []
    return [Details(summary="Raw samples, in the order in which they were taken", blocks=blocks)], rows


def _sample_rows(source: ReportedRun, cell: CellResult) -> list[Row]:
    return [
        {
            "run": source.run.name,
            "case_id": cell.case_id,
            "case": cell.case.label(),
            "implementation": cell.implementation,
            "device": cell.device,
            "process": process,
            **{name: record[name] for name in PER_SAMPLE},
        }
        for process, record in enumerate(record for record in cell.counted if record["time_samples_ns"])
    ]


def _strips_of(title: str, cells: Sequence[CellResult]) -> Strips:
    rows = []
    for cell in cells:
        samples = cell.metrics.time_samples_ns or ()
        ordered = sorted(samples)
        rows.append(
            {
                "implementation": cell.implementation,
                "length": length(cell.case.seqlen_kv),
                "count": f"{len(samples):,}",
                "least": duration(ordered[0]),
                "middle": duration(statistics.median(ordered)),
                "most": duration(ordered[-1]),
                "samples": _thinned(samples),
            }
        )
    titles = (("seqlen", "length"), ("samples", "count"), ("least", "least"), ("median", "middle"), ("most", "most"))
    return Strips(title=title, rows=rows, columns=titles)


def _thinned(samples: Sequence[float]) -> list[float]:
    """Return every n-th of many samples, with the largest of all among them."""
    step = -(-len(samples) // _STRIP_SAMPLES)
    kept = list(samples[::step])
    largest = max(samples)
    if largest not in kept:
        kept[samples.index(largest) // step] = largest
    return kept
