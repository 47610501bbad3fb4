"""Agreement: outputs are shown to the oracle, which says whether they are within what the dtype allows."""

from __future__ import annotations

import dataclasses
from typing import Any

from attnbench.metrics.metric import Metrics, metric

JUDGED_TENSORS = ("out", "lse", "dq", "dk", "dv")


def _rel(tensor: str) -> Any:
    return metric(
        f"{tensor} error",
        f"RMS of {tensor} - reference over RMS of the reference.",
        unit="ratio",
        join="max",
        better="lower",
    )


def _max(tensor: str) -> Any:
    return metric(
        f"{tensor} row error",
        f"Largest error of a row of {tensor}, relative to the row's norm.",
        unit="ratio",
        join="max",
        better="lower",
    )


def _budget(tensor: str) -> Any:
    return metric(f"{tensor} budget", f"Largest {tensor}_error_rel that agrees.", unit="ratio")


def _ratio(tensor: str) -> Any:
    return metric(
        f"{tensor} error / budget",
        f"The worst of all error / budget of {tensor}; above 1 is wrong.",
        unit="ratio",
        join="max",
        better="lower",
    )


def _worst(tensor: str) -> Any:
    return metric(
        f"{tensor} worst at",
        f"Index (batch, head, row, column) of {tensor}'s worst error.",
        unit="index",
        join="at_worst",
        worst_by=f"{tensor}_error_ratio",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorError:
    """How far one tensor is from the oracle's answer."""

    tensor: str
    ratio: float
    """Error over budget; above 1 is wrong."""
    worst: tuple[int, ...] | None
    """Where: (batch, head, row, column)."""


class AgreementMetrics(Metrics, stage="agreement"):
    """How far each judged tensor is from the float64 answer; ``ok`` means that every ratio is at most 1."""

    out_error_rel: float | None = _rel("out")
    out_error_max: float | None = _max("out")
    out_error_budget: float | None = _budget("out")
    out_error_ratio: float | None = _ratio("out")
    out_error_worst: tuple[int, ...] | None = _worst("out")
    lse_error_rel: float | None = _rel("lse")
    lse_error_max: float | None = _max("lse")
    lse_error_budget: float | None = _budget("lse")
    lse_error_ratio: float | None = _ratio("lse")
    lse_error_worst: tuple[int, ...] | None = _worst("lse")
    dq_error_rel: float | None = _rel("dq")
    dq_error_max: float | None = _max("dq")
    dq_error_budget: float | None = _budget("dq")
    dq_error_ratio: float | None = _ratio("dq")
    dq_error_worst: tuple[int, ...] | None = _worst("dq")
    dk_error_rel: float | None = _rel("dk")
    dk_error_max: float | None = _max("dk")
    dk_error_budget: float | None = _budget("dk")
    dk_error_ratio: float | None = _ratio("dk")
    dk_error_worst: tuple[int, ...] | None = _worst("dk")
    dv_error_rel: float | None = _rel("dv")
    dv_error_max: float | None = _max("dv")
    dv_error_budget: float | None = _budget("dv")
    dv_error_ratio: float | None = _ratio("dv")
    dv_error_worst: tuple[int, ...] | None = _worst("dv")
    rows_checked: int | None = metric("rows checked", "Rows of the output that were judged.", unit="count", join="max")
    rows_total: int | None = metric("rows", "Rows that the output has.", unit="count")

    @property
    def errors(self) -> tuple[TensorError, ...]:
        """The error of each tensor that was judged."""
        return tuple(
            TensorError(tensor=tensor, ratio=ratio, worst=getattr(self, f"{tensor}_error_worst"))
            for tensor in JUDGED_TENSORS
            if (ratio := getattr(self, f"{tensor}_error_ratio")) is not None
        )

    @property
    def error_ratio(self) -> float | None:
        """The worst error / budget of all tensors."""
        return max((error.ratio for error in self.errors), default=None)
