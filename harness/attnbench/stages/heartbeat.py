"""A heartbeat beside the samples of a case: the machine's own pace, which every run measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.transport.message import AnswerMessage, RequestMessage

if TYPE_CHECKING:
    from attnbench.stages.stage import CellRun


class HeartbeatMetrics(Metrics, stage="time"):
    """The machine's own pace."""

    heartbeat_ns: float | None = metric(
        "heartbeat", "A fixed matrix product, right after the samples of the case.", unit="ns", join="median"
    )
    machine_drift: float | None = metric(
        "machine drift", "Standard deviation of heartbeats, over this run and earlier ones here, as a share.",
        unit="ratio", join="max", better="lower",
    )  # fmt: skip


class Beaten(AnswerMessage):
    """The heartbeat."""

    heartbeat_ns: float


class Beat(RequestMessage[Beaten]):
    """Ask the oracle's process for a heartbeat."""


def listen(cell: CellRun) -> None:
    """Have a heartbeat, one for all cells that take turns."""
    company = cell.company
    if company.is_here and company.heartbeat_ns is None:
        company.heartbeat_ns = cell.ask_oracle(Beat()).heartbeat_ns
    cell.keep(HeartbeatMetrics(heartbeat_ns=company.heartbeat_ns))
