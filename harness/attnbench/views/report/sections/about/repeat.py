"""The section on repeating cells: the command of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import count, length
from attnbench.views import columns
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Block, Details, Part, Section, named

if TYPE_CHECKING:
    from attnbench.views.document import Row
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material

MOST_COMMANDS = 500
"""The most commands of a run; every record of the run file has its own."""


def section(material: Material) -> Section:
    """Return a command for each cell."""
    blocks: list[Block] = [
        Paragraph(text="Each command runs one cell again, by itself, with the defaults of a run and the same inputs.")
    ]
    for source in material.sources:
        blocks += [*named(source), _commands(source)]
    return Section(anchor="repeat", title="How to repeat a cell", blocks=blocks)


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
    column("cases"),
    columns.IMPLEMENTATION,
    columns.STATUS,
    column("command", "repro", is_code=True),
]
