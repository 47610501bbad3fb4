"""Table of predictions; every row is marked as predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.predicting.model import interval_of
from attnbench.units import duration, duration_interval, length, number
from attnbench.views import columns
from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View, column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.predicting.model import Network, Prediction
    from attnbench.predicting.reading import Asked, Cells, Family

Line = tuple["Family", "Asked", "Prediction"]


def predict_view(run: str, cells: Cells, network: Network, lines: Sequence[Line], refused: Sequence[str]) -> View:
    """Build the view of a prediction.

    Args:
        run: path of the run that the model was fitted to.
        cells: the cells read from it.
        network: the links to predict for.
        lines: the predicted calls.
        refused: sentences on calls that were not predicted.
    """
    rows = [_row(*line) for line in lines]
    blocks: list[Block] = [Heading(text=f"Predicted from {run}, not measured", level=1)]
    if cells.common:
        blocks.append(Paragraph(text=f"All cases: {cells.common}"))
    blocks.append(Table(columns=_columns(rows), rows=rows))
    blocks += [Paragraph(text=text) for text in (*_links(network), *cells.left_out, *refused)]
    alpha, beta, busy = (
        interval_of(one) for one in (network.latency_ns, network.ns_per_byte, network.busy_ns_per_byte)
    )
    facts: dict[str, Any] = {"kind": "prediction", "run": run, "refused": list(refused), "left_out": [*cells.left_out]}
    facts |= {"latency_ns": alpha.value, "ns_per_byte": beta.value, "busy_ns_per_byte": busy.value}
    return View(blocks=blocks, rows=rows, facts=facts)


def _row(family: Family, asked: Asked, prediction: Prediction) -> Row:
    row: dict[str, Any] = {
        "kind": "predicted", "implementation": family.implementation, "case": family.label, "seqlen": asked.length,
        "ranks": asked.ranks, "efficiency": prediction.efficiency,
    }  # fmt: skip
    for name in ("compute", "communication", "exposed", "time"):
        interval = getattr(prediction, f"{name}_ns")
        row |= {f"predicted_{name}_ns": interval.value, f"predicted_{name}_low_ns": interval.low}
        row[f"predicted_{name}_high_ns"] = interval.high
    return row


def _columns(rows: Sequence[Row]) -> list[Column]:
    return [
        column("", "kind"),
        columns.IMPLEMENTATION,
        *([column("case")] if any(row["case"] for row in rows) else []),
        Column(title="seqlen", text=lambda row: length(row["seqlen"]), is_number=True),
        column("ranks", unit="count"),
        column("compute", "predicted_compute_ns", unit="ns", spare=3),
        column("communication", "predicted_communication_ns", unit="ns", spare=2),
        column("exposed", "predicted_exposed_ns", unit="ns"),
        column("time", "predicted_time_ns", unit="ns"),
        Column(
            title="95 % interval",
            text=lambda row: duration_interval(row["predicted_time_low_ns"], row["predicted_time_high_ns"]),
            is_number=True,
            spare=1,
        ),
        Column(title="efficiency", text=lambda row: f"{100 * row['efficiency']:.0f} %", is_number=True, spare=4),
    ]


def _links(network: Network) -> list[str]:
    alpha, beta, busy = (
        interval_of(one) for one in (network.latency_ns, network.ns_per_byte, network.busy_ns_per_byte)
    )
    whose = "one link that all ranks share" if network.shared else "a link for each rank"
    said = [
        f"Links: {whose}, {duration(alpha.value)} for each round of messages and {number(1 / beta.value)} GB/s."
        if beta.value
        else f"Links: {whose}, {duration(alpha.value)} for each round of messages, whatever their size."
    ]
    if not network.hiding_seen:
        said.append("No measured cell tells how much of a transfer keeps the processor busy; taken as none.")
    elif busy.value:
        said.append(f"Each byte keeps a processor busy for {number(busy.value)} ns, which no compute hides.")
    said.append(
        "Efficiency is the time on one rank over the number of ranks times their time. Intervals hold the scatter of "
        "the measured cells, not what a machine does beyond their sizes."
    )
    return said
