"""The section on the fastest machine and implementation of each case, if it is requested."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.units import count
from attnbench.views.document import Paragraph
from attnbench.views.machines import across_machines, places_of
from attnbench.views.report.blocks import MOST_ROWS, Block, Export, Section

if TYPE_CHECKING:
    from attnbench.views.report.material import Material


def section(material: Material) -> Section | None:
    """Return the fastest implementation of each case at each place; ``None`` unless machines are compared."""
    if not material.across_machines:
        return None
    said, table = across_machines(places_of((source.name, source.cells) for source in material.sources))
    rows = table.rows if table else []
    blocks: list[Block] = [Paragraph(text=said)]
    if table:
        blocks.append(dataclasses.replace(table, rows=table.rows[:MOST_ROWS]))
    if (left_out := len(rows) - MOST_ROWS) > 0:
        blocks.append(Paragraph(text=f"{count(left_out, 'more line')}: data/machines.csv has them all."))
    return Section(
        anchor="machines",
        title="Which machine, which implementation",
        blocks=blocks,
        exports=[Export(stem="machines", rows=rows)] if rows else [],
    )
