"""The flame graphs, and the files for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.document import Paragraph, Table, column
from attnbench.views.profile.cases import titled
from attnbench.views.profile.flame import WIDTH, flame_height
from attnbench.views.report.blocks import Embedded, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.profile.cases import ProfiledCase
    from attnbench.views.report.blocks import Block


def section(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return a flame graph for each cell that has stacks, or ``None`` if none has."""
    found = [(title, one) for title, one in titled(cases) if one.cell.stacks]
    if not found:
        return None
    blocks: list[Block] = [
        Paragraph(
            text="Callers are above what they call, as wide as their time, in the colour of the phase that takes most "
            "of it; grey where none does. A click zooms, Escape goes back."
        )
    ]
    blocks += [
        Embedded(file=f"flame-{one.number}.svg", title=title, width=WIDTH, height=flame_height(one.cell))
        for title, one in found
    ]
    rows = [
        {
            "cell": title,
            "stacks": f"flame-{one.number}.folded",
            "trace": f"trace-{one.number}.json" if one.cell.timeline else "",
            "operators": one.cell.no_operators or "torch's",
        }
        for title, one in found
    ]
    columns = [
        column("cell"),
        column("folded stacks: speedscope, inferno, flamegraph.pl", "stacks", is_code=True),
        column("trace: ui.perfetto.dev, chrome://tracing", "trace", is_code=True),
        column("operators in the trace", "operators"),
    ]
    blocks.append(Table(title="Files beside this page for other programs", columns=columns, rows=rows))
    return Section(anchor="flames", title="Flame graphs", blocks=blocks)
