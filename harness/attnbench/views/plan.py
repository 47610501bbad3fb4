"""The cells that a run would have, with an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.runner.plan import Cell

_COLUMNS = (
    Column(title="estimate", text=lambda row: row["status"] or f"{row['estimate_s']:.1f} s", is_number=True),
    Column(title="device", text=lambda row: row["device"]),
    Column(title="implementation", text=lambda row: row["implementation"], is_implementation=True),
    Column(title="case", text=lambda row: row["case"]),
)


def plan_view(name: str, cells: Sequence[Cell], sampling_s: float) -> View:
    """A row for each cell.

    Args:
        name: the scenario's.
        cells: the plan.
        sampling_s: seconds of sampling for each cell.
    """
    rows = [_row(cell, sampling_s) for cell in cells]
    running = sum(row["status"] is None for row in rows)
    seconds = sum(row["estimate_s"] for row in rows)
    said = f"{running} cells to run of {len(rows)}, about {seconds:.0f} s beside the start of workers"
    blocks: list[Block] = [
        Heading(text=f"Plan of {name}", level=1),
        Table(columns=_COLUMNS, rows=rows),
        Paragraph(text=said),
    ]
    return View(blocks=blocks, rows=rows, facts={"scenario": name, "sentence": said, "estimate_s": seconds})


def _row(cell: Cell, sampling_s: float) -> Row:
    from attnbench.runner.plan import estimate_s

    status, reason = cell.preset_outcome or (None, None)
    return {
        "implementation": cell.found.name,
        "device": cell.device,
        "replicate": cell.replicate,
        "case_id": cell.case.case_id,
        "case": cell.case.label(),
        "estimate_s": estimate_s(cell, sampling_s),
        "status": status,
        "reason": reason,
    }
