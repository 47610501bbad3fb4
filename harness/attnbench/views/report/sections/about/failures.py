"""The section on failures and refusals: the cells that are not ok, by their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views import columns
from attnbench.views.document import Paragraph
from attnbench.views.report.blocks import Block, Section, named

if TYPE_CHECKING:
    from attnbench.views.report.material import Material


def section(material: Material) -> Section:
    """A table of reasons for each run."""
    blocks: list[Block] = []
    for source in material.sources:
        table = columns.reasons(source.cells)
        blocks += [*named(source), table if table.rows else Paragraph(text="Every cell is ok.")]
    return Section(anchor="failures", title="Failures and refusals", blocks=blocks)
