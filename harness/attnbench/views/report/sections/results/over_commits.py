"""The section on history: each cell of the run over commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.document import Paragraph
from attnbench.views.history.cells import cell_histories, row_of
from attnbench.views.history.tables import extent, how_to_read, place_of, worst_table
from attnbench.views.report.blocks import Section

if TYPE_CHECKING:
    from attnbench.views.report.material import Material


def section(material: Material) -> Section | None:
    """Return a row for each cell that the history has, in the run's order, or ``None`` without a history."""
    history = material.history
    if history is None:
        return None
    known = {one.cell: one for one in cell_histories(history)}
    keys = [key for key in dict.fromkeys(cell.key for cell in material.cells) if key in known]
    if not keys:
        said = "The history of this machine has none of these cells."
        return Section(anchor="over-commits", title="Over commits", blocks=[Paragraph(text=said)])
    rows = [row_of(known[key], place_of(history, None)) for key in keys]
    said = f"{extent(history)} {how_to_read()}"
    return Section(anchor="over-commits", title="Over commits", blocks=[worst_table(rows), Paragraph(text=said)])
