"""The view of ``--dry-run``: the cells that would run, and an estimate of their time."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.units import count
from attnbench.views.document import Column, Heading, Paragraph, Table, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.runner.planning.paces import Paces
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.views.document import Block, Row


def plan_view(request: Request, cells: Sequence[Cell]) -> View:
    """Show a row for each cell that would run, by implementation and size; the others are only counted.

    The view's rows hold all cells; those that cannot run have the reason.
    """
    from attnbench.runner.planning.paces import paces_of, whole_s

    paces = paces_of(request)
    ordered = sorted(cells, key=_place)
    rows = [_row(cell, paces, request.sampling_s) for cell in ordered]
    running = [row for row in rows if row["status"] is None]
    counts = collections.Counter(row["status"] for row in rows if row["status"])
    seconds = whole_s(cells, paces, request.sampling_s)
    left_out = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    others = f"; of {count(len(rows), 'cell')} {left_out}" if left_out else ""
    said = f"{count(len(running), 'cell')} to run, about {seconds:.0f} s{others}"
    columns = [
        Column(title="estimate", text=lambda row: f"{row['estimate_s']:.1f} s", is_number=True),
        Column(title="device", text=lambda row: str(row["device"])),
        Column(title="implementation", text=lambda row: str(row["implementation"]), is_implementation=True),
        Column(title="case", text=lambda row: str(row["case"])),
    ]
    blocks: list[Block] = [
        Heading(text=f"Plan of {request.scenario.name}", level=1),
        Table(columns=columns, rows=running),
        Paragraph(text=said),
    ]
    facts = {"scenario": request.scenario.name, "sentence": said, "estimate_s": seconds}
    return View(blocks=blocks, rows=rows, facts=facts)


def _place(cell: Cell) -> tuple[object, ...]:
    case = cell.case
    return (cell.device, cell.found.name, case.mode, case.seqlen_kv, case.seqlen_q, case.label(), cell.replicate)


def _row(cell: Cell, paces: Paces, sampling_s: float) -> Row:
    status, reason = cell.preset_outcome or (None, None)
    return {
        "implementation": cell.found.name,
        "device": cell.device,
        "replicate": cell.replicate,
        "case_id": cell.case.case_id,
        "case": cell.case.label(),
        "estimate_s": paces.estimate_s(cell, sampling_s),
        "status": status,
        "reason": reason,
    }
