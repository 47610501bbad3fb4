"""The section on ranks, several processes that share a call: their compute, their messages, and the cost of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views import columns
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Section

if TYPE_CHECKING:
    from attnbench.views.report.material import Material

METRICS = (
    "time_median_ns",
    "ranks_compute_ns",
    "ranks_communication_ns",
    "ranks_exposed",
    "ranks_overlap",
    "ranks_imbalance",
    "ranks_sent_bytes",
    "memory_peak_bytes",
)


def section(material: Material) -> Section | None:
    """Return a table of the cells that ran on several ranks, or ``None`` if there are none."""
    cells = [cell for cell in material.cells if cell.metrics.ranks_compute_ns is not None]
    if not cells:
        return None
    rows = [
        {**cell.numbers(), "label": cell.case.label()}
        for cell in sorted(cells, key=lambda cell: (cell.case.label(), cell.implementation))
    ]
    table = Table(
        title="Calls that several ranks share",
        columns=[column("case", "label"), columns.IMPLEMENTATION, *map(columns.of_metric, METRICS)],
        rows=rows,
    )
    note = Paragraph(
        text="A number behind @ is that of ranks, which share the threads. Times are those of the slowest rank, memory "
        "is that of the rank that needs most, and bytes are those that all ranks together send in a call."
    )
    return Section(anchor="ranks", title="Ranks", blocks=[table, note])
