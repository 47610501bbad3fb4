"""The view of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.units import TIMES, count, listing, times, times_interval
from attnbench.views import columns
from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View, column
from attnbench.views.estimates import as_fields
from attnbench.views.groups import group_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.record import CellKey
    from attnbench.views.compare import Comparison, Pair

REFERENCE = column("reference", "reference_time_median_ns", unit="ns", spare=2)
SPEEDUP = Column(title="speed-up", text=lambda row: times(row["speedup"]), is_number=True)
SPEEDUP_INTERVAL = Column(
    title="interval", text=lambda row: times_interval(row["speedup_low"], row["speedup_high"]), is_number=True, spare=1
)
DIFFERENCE = column("difference")
MEMORY_RATIO = Column(title=f"memory {TIMES}", text=lambda row: times(row["memory_ratio"]), is_number=True, spare=3)


def view_of(comparison: Comparison) -> View:
    """Show the means first, then the speed-ups of each case, then the cells without one."""
    rows = {pair.subject.key: _row(pair) for pair in comparison.pairs}
    blocks: list[Block] = [
        Heading(text=comparison.title, level=1),
        *(Paragraph(text=note) for note in comparison.notes),
        Paragraph(text=f"Above 1 is faster than {comparison.reference}."),
        means_table(comparison),
    ]
    blocks += _cases(comparison.pairs, rows)
    missing = _missing(comparison)
    if missing.rows:
        blocks += [Heading(text=f"{count(len(comparison.missing), 'cell')} without a speed-up"), missing]
    facts = {
        "kind": "compare",
        "reference": comparison.reference,
        "notes": list(comparison.notes),
        "means": means_table(comparison).rows,
        "missing": missing.rows,
    }
    return View(blocks=blocks, rows=list(rows.values()), facts=facts)


def _row(pair: Pair) -> Row:
    return {
        **pair.subject.numbers(),
        "reference_implementation": pair.reference.implementation,
        "reference_time_median_ns": pair.reference.time_ns,
        "reference_memory_peak_bytes": pair.reference.metrics.memory_peak_bytes,
        **as_fields("speedup", pair.speedup),
        "speedup_method": pair.speedup.method,
        "difference": pair.difference,
        "memory_ratio": pair.memory_ratio,
    }


def means_table(comparison: Comparison) -> Table:
    """Return each implementation's geometric mean of speed-ups, with the number of its cells that it is over."""
    rows = [
        {"implementation": mean.implementation, "geometric_mean": mean.value, "pairs": mean.pairs, "cells": mean.cells}
        for mean in comparison.means
    ]
    return Table(
        columns=[
            columns.IMPLEMENTATION,
            Column(title="geometric mean", text=lambda row: times(row["geometric_mean"]), is_number=True),
            Column(title="over", text=lambda row: f"{row['pairs']:,} of {count(row['cells'], 'cell')}"),
        ],
        rows=rows,
    )


def _missing(comparison: Comparison) -> Table:
    """Return the cells that the means leave out; cells of one implementation with equal reasons share a row."""
    grouping = group_cells(one.cell for one in comparison.missing)
    labels: dict[CellKey, str] = {}
    for group in grouping.groups:
        labels |= {cell.key: group.case_label(cell.case.seqlen_kv) for cell in group.cells}
    alike = grouped(comparison.missing, lambda one: (one.cell.implementation, one.why))
    rows = [
        {"implementation": name, "cells": len(found), "why": why, "cases": [labels[one.cell.key] for one in found]}
        for (name, why), found in sorted(alike.items())
    ]
    return Table(
        columns=[
            columns.IMPLEMENTATION,
            column("cells", unit="count"),
            column("why"),
            Column(title="cases", text=lambda row: listing(row["cases"], most=2)),
        ],
        rows=rows,
    )


def _cases(pairs: Sequence[Pair], rows: dict[CellKey, Row]) -> list[Block]:
    grouping = group_cells(pair.subject for pair in pairs)
    blocks: list[Block] = [Paragraph(text=f"All cases: {grouping.common}")] if grouping.common else []
    for group in grouping.groups:
        shown = [{**rows[cell.key], "length": cell.case.seqlen_kv} for cell in group.cells]
        shown.sort(key=lambda row: (row["length"], -row["speedup"]))
        blocks += [Heading(text=group.label)] if group.label else []
        blocks.append(
            Table(
                columns=[
                    columns.length_column(group.axis),
                    columns.IMPLEMENTATION,
                    REFERENCE,
                    columns.TIME,
                    SPEEDUP,
                    SPEEDUP_INTERVAL,
                    DIFFERENCE,
                    MEMORY_RATIO,
                ],
                rows=shown,
            )
        )
    return blocks
