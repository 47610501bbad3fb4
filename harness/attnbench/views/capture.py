"""The view of a capture: a row for each shape, the calls that were not matched, and the next command."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.capturing.layers import in_short
from attnbench.capturing.scenario import captured_cases
from attnbench.units import ABSENT, count, duration, number
from attnbench.views.document import Block, Column, Heading, Paragraph, Table, View, column

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.store.capture import Capture
    from attnbench.views.document import Row

_CALLS = (
    column("shape"),
    column("calls", unit="count"),
    Column(title="layers", text=lambda row: in_short(row["layers"]) if row["layers"] else ABSENT, spare=1),
    Column(title="case", text=lambda row: row["case"] or ABSENT),
    column("time", "seconds", unit="s", spare=2),
    Column(title="share", text=lambda row: f"{number(100 * row['share'])} %", is_number=True),
)
_UNMATCHED = (column("not matched", "what"), column("calls", unit="count"), column("reason"))


def capture_view(folder: Path, capture: Capture) -> View:
    """Show a capture: its calls by shape, calls without a match, notes, and the command that replays it."""
    labels = _labels(folder) if capture.calls else {}
    total = capture.attention_seconds or 1.0
    rows: list[Row] = [
        {**call.model_dump(mode="json"), "case": labels.get(call.shape), "share": call.seconds / total}
        for call in capture.calls
    ]
    unmatched: list[Row] = [one.model_dump(mode="json") for one in capture.unmatched]
    blocks: list[Block] = [Heading(text=f"Captured: {folder}", level=1), Paragraph(text=_sentence(capture))]
    blocks += [Table(columns=_CALLS, rows=rows)] if rows else []
    blocks += [Table(columns=_UNMATCHED, rows=unmatched)] if unmatched else []
    blocks += [Paragraph(text=f"Note: {note}.") for note in capture.notes]
    if rows:
        blocks.append(Paragraph(text=f"Next: attnbench replay {folder}"))
    facts = capture.model_dump(mode="json", exclude={"calls"})
    return View(blocks=blocks, rows=rows, facts=facts)


def _sentence(capture: Capture) -> str:
    """Return a sentence on the number of calls and their share of the model's time."""
    if not capture.calls:
        return "No attention was captured."
    calls, shapes = sum(call.calls for call in capture.calls), len(capture.calls)
    said = f"{count(calls, 'attention call')} of {count(shapes, 'shape')}: {duration(1e9 * capture.attention_seconds)}"
    if not capture.total_seconds:
        return f"{said}."
    share, overhead = (
        f"{number(100 * seconds / capture.total_seconds)} %"
        for seconds in (capture.attention_seconds, capture.overhead_seconds)
    )
    return (
        f"{said}, {share} of the model's {duration(1e9 * capture.total_seconds)} on {capture.device}. "
        f"Capture itself took {overhead} on top."
    )


def _labels(folder: Path) -> dict[str, str]:
    """Return the label of each shape's case, without the file of its inputs."""
    cases = captured_cases(folder)
    return {shape: dataclasses.replace(case, inputs="normal").label() for shape, case in cases.items()}
