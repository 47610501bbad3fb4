"""Kernels on a GPU, with their times and the gaps between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import duration
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.report.blocks import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase
    from attnbench.views.report.blocks import Block


def section(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return the kernels of all cells on a GPU, or ``None`` if there is none."""
    blocks: list[Block] = []
    for case in cases:
        for one in case.cells:
            found = one.cell.kernels
            if found is None:
                continue
            said = (
                f"{one.name}, {case.label}: of a call the device works for {duration(found.busy_ns)}, has nothing to "
                f"do between kernels for {duration(found.gaps_ns)}, and begins {duration(found.first_launch_ns)} after "
                "its first launch."
            )
            rows: list[Row] = [{"name": k.name, "launches": k.launches, "ns": k.ns} for k in found.kernels]
            columns = [
                column("kernel", "name", is_code=True),
                Column(title="launches a call", text=lambda row: f"{row['launches']:g}", is_number=True),
                column("time of a call", "ns", unit="ns"),
            ]
            blocks += [Paragraph(text=said), Table(columns=columns, rows=rows)]
            if found.no_scopes:
                blocks.append(Paragraph(text=f"No scopes of Triton's kernels: {found.no_scopes}."))
            if found.scopes:
                scopes: list[Row] = [
                    {"name": " / ".join(s.path), "launches": s.launches, "ns": s.ns} for s in found.scopes
                ]
                scope = column("scope of Proton", "name", is_code=True)
                blocks.append(Table(columns=[scope, *columns[1:]], rows=scopes))
    return Section(anchor="kernels", title="Kernels on the GPU", blocks=blocks) if blocks else None
