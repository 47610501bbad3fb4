"""The section on measurement conditions: disturbances, and every metric of each cell."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.metrics.join import join_values
from attnbench.store.record import METRICS
from attnbench.units import count, listing, number
from attnbench.views import columns
from attnbench.views.cells import NEVER_RAN
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import DRAWN_OF_LARGE, Block, Details, Section, is_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.material import Material

CONDITIONS = (
    "cache_state", "warmup_converged", "launch_bound", "throttled_by", "steal_share", "involuntary_switches",
    "major_faults", "time_outliers", "time_visits_left_out",
)  # fmt: skip
MOST_CELLS = 120
"""The most cells whose metrics are shown; a large report shows ``DRAWN_OF_LARGE``."""


def section(material: Material) -> Section:
    """Return the disturbances of the cells, the worst of each implementation, and all metrics by stage."""
    timed = [cell for cell in material.cells if cell.timing is not None]
    blocks: list[Block] = []
    if timed:
        blocks = [Paragraph(text=_sentence(timed)), _worst(timed)]
    return Section(anchor="conditions", title="Measurement conditions", blocks=[*blocks, *_every_metric(material)])


def _sentence(timed: Sequence[CellResult]) -> str:
    metrics = [cell.metrics for cell in timed]
    stolen = [one.steal_share for one in metrics if one.steal_share]
    most = f" (at most {number(100 * max(stolen))} %)" if stolen else ""
    found = {
        "did not settle while they warmed up": sum(one.warmup_converged is False for one in metrics),
        "took the host longer to queue than the device to compute": sum(bool(one.launch_bound) for one in metrics),
        "ran with a clock that was held down": sum(bool(one.throttled_by) for one in metrics),
        f"lost processor time to other virtual machines{most}": len(stolen),
        "waited for pages from the disk": sum(bool(one.major_faults) for one in metrics),
    }
    said = [f"{n:,} {what}" for what, n in found.items() if n]
    drifts = [one.machine_drift for one in metrics if one.machine_drift]
    pace = (
        f" The machine's pace changes by {number(100 * max(drifts), 2)} % from run to run (standard deviation of "
        "heartbeats); the intervals of times have room for it."
        if drifts
        else ""
    )
    return f"Of {count(len(timed), 'timed cell')}, {listing(said, most=len(found)) or 'none was disturbed'}.{pace}"


def _worst(timed: Sequence[CellResult]) -> Table:
    """Join each condition over all cells of an implementation, as it is joined over the processes of a cell."""
    rows: list[Row] = []
    for implementation, cells in sorted(grouped(timed, lambda cell: cell.implementation).items()):
        row: Row = {"implementation": implementation, "cells": len(cells)}
        for name in CONDITIONS:
            values = [value for cell in cells if (value := getattr(cell.metrics, name)) is not None]
            row[name] = join_values(METRICS[name], values)
        rows.append(row)
    return Table(
        title="Over all cells of each, the worst",
        columns=[
            columns.IMPLEMENTATION,
            column("cells", unit="count"),
            *columns.filled(map(columns.of_metric, CONDITIONS), rows),
        ],
        rows=rows,
    )


def _every_metric(material: Material) -> list[Block]:
    """Return a table for each stage, with the metrics that any cell has."""
    rows: list[Row] = [
        {**cell.numbers(), "cases": group.case_label(cell.case.seqlen_kv)}
        for source in material.sources
        for group in source.grouping.groups
        for cell in group.cells
        if cell.status not in NEVER_RAN
    ]
    kept = rows[: DRAWN_OF_LARGE if is_large(material.sources) else MOST_CELLS]
    cases = column("cases")
    tables: list[Block] = []
    for stage, metrics in itertools.groupby(METRICS.values(), key=lambda metric: metric.stage):
        named = [metric.name for metric in metrics if not metric.is_per_sample]
        own = [row for row in kept if any(row[name] is not None for name in named)]
        shown = columns.filled(map(columns.of_metric, named), own)
        table = Table(columns=[cases, columns.IMPLEMENTATION, columns.STATUS, *shown], rows=own)
        tables += [Details(summary=stage, blocks=[table])] if own else []
    if not tables:
        return []
    if len(kept) < len(rows):
        tables.append(Paragraph(text=f"{count(len(rows) - len(kept), 'more cell')}: data/cells.csv has them all."))
    return [Details(summary="Every metric of each cell, by stage", blocks=tables)]
