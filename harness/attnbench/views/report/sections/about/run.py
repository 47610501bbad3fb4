"""The section on the run: scenario, command, machine and outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.document import Paragraph
from attnbench.views.report.blocks import Block, Section, named
from attnbench.views.show import summary_lines

if TYPE_CHECKING:
    from attnbench.views.report.material import Material


def section(material: Material) -> Section:
    """Return a few sentences on each run."""
    blocks: list[Block] = []
    for source in material.sources:
        blocks += named(source)
        said = str(source.run.header.scenario.get("description") or "")
        blocks += [Paragraph(text=line) for line in (said, *summary_lines(source.run, source.cells)) if line]
        if source.grouping.common:
            blocks.append(Paragraph(text=f"All cases: {source.grouping.common}."))
    return Section(anchor="run", title="What was run", blocks=blocks)
