"""The view of a scenario's sensitivity: one row for each known-wrong implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View

if TYPE_CHECKING:
    from attnbench.mutants.sensitivity import Sensitivity, Tally

_COLUMNS = (
    Column(title="mutant", text=lambda row: row["mutant"], is_code=True),
    Column(title="caught by", text=lambda row: f"{row['cases_that_catch']} of {row['cases_tried']}", is_number=True),
    Column(title="its mistake", text=lambda row: row["mistake"]),
    Column(title="as in", text=lambda row: row["copies"] or "", spare=2),
    Column(title="first caught at", text=lambda row: row["first_caught_at"] or "not caught", spare=1),
)


def sensitivity_view(name: str, found: Sensitivity) -> View:
    """Show which mutants the inputs of a scenario catch, and which they are blind to."""
    rows = [_row(tally) for tally in found.tallies]
    seen = len(rows) - len(found.unseen)
    blocks: list[Block] = [
        Heading(text=f"Sensitivity of {name}", level=1),
        Paragraph(
            text=f"{seen} of {len(rows)} mutants are caught by the inputs of {len(found.cases)} cases. One that "
            "several cases have caught is tried no more."
        ),
        Table(columns=_COLUMNS, rows=rows),
    ]
    if found.unseen:
        blind = ", ".join(tally.name for tally in found.unseen)
        blocks.append(Paragraph(text=f"The inputs of {name} are blind to: {blind}."))
    facts = {"scenario": name, "mutants": len(rows), "caught": seen, "blind_to": [t.name for t in found.unseen]}
    return View(blocks=blocks, rows=rows, facts=facts)


def _row(tally: Tally) -> Row:
    return {
        "mutant": tally.name,
        "mistake": tally.sentence,
        "copies": tally.copies,
        "cases_tried": tally.tried,
        "cases_that_catch": len(tally.caught),
        "first_caught_at": tally.caught[0].label() if tally.caught else None,
        "reason": tally.reason,
    }
