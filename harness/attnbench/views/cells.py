"""Cells as views see them: the records of one cell, one from each process, made into one result."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import Case
from attnbench.store.record import JUDGED_TENSORS
from attnbench.views.estimates import Timing, sample_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnbench.store.reader import RunFile

CellKey = tuple[str, str, str]
"""(case_id, implementation, device)"""

DISTURBED = frozenset({"invalid", "skipped"})
"""A process that was disturbed, or left out for want of time, says nothing against what the other ones measured."""
NEVER_RAN = frozenset({"unsupported", "unavailable", "skipped"})

_CASE_FIELDS = tuple(field.name for field in dataclasses.fields(Case))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """One cell: case, implementation and device, over all of its processes."""

    case: Case
    case_id: str
    implementation: str
    device: str
    tags: tuple[str, ...]
    status: str
    """``ok`` only where every process was, but for disturbed ones; else the first other status."""
    stage: str | None
    reason: str | None
    backend: str | None
    repro: str
    processes: int
    timing: Timing | None
    memory_bytes: int | None
    """Median of the processes' peaks."""
    error_ratio: float | None
    """The worst error / budget of all tensors in all processes."""
    flops: int | None
    peak_tflops: float | None

    @property
    def key(self) -> CellKey:
        """What makes it the same cell in another run."""
        return (self.case_id, self.implementation, self.device)

    @property
    def time_ns(self) -> float | None:
        """Median of the processes' medians."""
        return None if self.timing is None else self.timing.value

    @property
    def tflops(self) -> float | None:
        """Operations of the case over its time, TFLOP/s."""
        return None if self.timing is None or self.flops is None else self.flops / self.timing.value / 1e3

    @property
    def percent_of_peak(self) -> float | None:
        """Rate in percent of the peak that was measured in the same run."""
        return None if self.tflops is None or not self.peak_tflops else 100 * self.tflops / self.peak_tflops

    def numbers(self) -> dict[str, Any]:
        """Flat and raw, units in the names, for CSV and JSON: the case, the outcome, the estimates."""
        estimate = None if self.timing is None else self.timing.estimate
        return {
            "case_id": self.case_id,
            "implementation": self.implementation,
            "device": self.device,
            **self.case.to_dict(),
            "cell_tags": list(self.tags),
            "status": self.status,
            "stage": self.stage,
            "reason": self.reason,
            "backend": self.backend,
            "processes": self.processes,
            "time_median_ns": self.time_ns,
            "time_ci_low_ns": estimate and estimate.low,
            "time_ci_high_ns": estimate and estimate.high,
            "time_ci_method": estimate and estimate.method,
            "memory_peak_bytes": self.memory_bytes,
            "error_ratio": self.error_ratio,
            "tflops": self.tflops,
            "percent_of_peak": self.percent_of_peak,
            "repro": self.repro,
        }


def cells_of(run: RunFile) -> list[CellResult]:
    """The run's cells, in the order in which they first ran."""
    by_key: dict[CellKey, list[dict[str, Any]]] = {}
    for record in run.records:
        by_key.setdefault((record["case_id"], record["implementation"], record["device"]), []).append(record)
    cases: dict[str, Case] = {}
    return [_result(records, _case(cases, records[0])) for records in by_key.values()]


def _case(known: dict[str, Case], record: Mapping[str, Any]) -> Case:
    """The record's case; one object for all records that have it."""
    case_id = record["case_id"]
    if case_id not in known:
        fields: dict[str, Any] = {name: record[name] for name in _CASE_FIELDS}
        for name, value in fields.items():
            fields[name] = tuple(value) if isinstance(value, list) else value
        known[case_id] = Case(**fields)
    return known[case_id]


def _result(records: list[dict[str, Any]], case: Case) -> CellResult:
    good = [record for record in records if record["status"] == "ok"]
    bad = [record for record in records if record["status"] != "ok"]
    decisive = [record for record in bad if not good or record["status"] not in DISTURBED]
    said = decisive[0] if decisive else good[0]
    counted = [] if decisive else good
    reason = said["reason"]
    if decisive and len(decisive) < len(records):
        reason = f"{reason} (in {len(decisive)} of {len(records)} processes)"
    elif not decisive and bad:
        reason = f"{len(bad)} of {len(records)} processes are left out: {bad[0]['reason']}"
    timed = [record for record in counted if record["time_median_ns"] is not None]
    weighed = [record["memory_peak_bytes"] for record in counted if record["memory_peak_bytes"] is not None]
    return CellResult(
        case=case,
        case_id=said["case_id"],
        implementation=said["implementation"],
        device=said["device"],
        tags=tuple(said["cell_tags"] or ()),
        status=said["status"],
        stage=said["stage"],
        reason=reason,
        backend=next((record["backend"] for record in records if record["backend"]), None),
        repro=said["repro"],
        processes=len(records),
        timing=_timing(timed) if timed else None,
        memory_bytes=round(statistics.median(weighed)) if weighed else None,
        error_ratio=worst_ratio(records),
        flops=said["flops"],
        peak_tflops=said["peak_tflops"],
    )


def _timing(records: list[dict[str, Any]]) -> Timing:
    return Timing(
        medians=tuple(record["time_median_ns"] for record in records),
        intervals=tuple(
            sample_interval(record["time_samples_ns"], record["time_ci_low_ns"], record["time_ci_high_ns"])
            for record in records
        ),
    )


def worst_ratio(records: Iterable[Mapping[str, Any]]) -> float | None:
    """The largest error / budget of any tensor in any of the records, or ``None`` where nothing was judged."""
    ratios = [record[f"{tensor}_error_ratio"] for record in records for tensor in JUDGED_TENSORS]
    return max((ratio for ratio in ratios if ratio is not None), default=None)
