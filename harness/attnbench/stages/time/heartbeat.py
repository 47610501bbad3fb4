"""Heartbeats taken between the samples of a case: they measure the speed of the machine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.transport.message import AnswerMessage, RequestMessage

if TYPE_CHECKING:
    from attnbench.stages.stage import CellRun


class HeartbeatMetrics(Metrics, stage="time"):
    """The speed of the machine itself."""

    heartbeat_ns: float | None = metric(
        "heartbeat", "A fixed matrix product, in turns with the cells of the case.", unit="ns", join="median"
    )
    machine_drift: float | None = metric(
        "machine drift", "How far heartbeats of successive runs here differ, as a share.",
        unit="ratio", join="max", better="lower",
    )  # fmt: skip


class Beaten(AnswerMessage):
    """The time of a heartbeat."""

    heartbeat_ns: float


class Beat(RequestMessage[Beaten]):
    """Ask the oracle's process for a heartbeat."""


def listen(cell: CellRun, visits: int) -> None:
    """Take one heartbeat per round of visits, when the first cell gets there."""
    company = cell.company
    if company.is_here and len(company.heartbeats) < visits:
        company.heartbeats.append(cell.ask_oracle(Beat()).heartbeat_ns)


def keep_heartbeat(cell: CellRun) -> None:
    """Store the median heartbeat in the cell."""
    cell.keep(HeartbeatMetrics(heartbeat_ns=cell.company.heartbeat_ns))
