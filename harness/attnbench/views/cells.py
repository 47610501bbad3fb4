"""Cells as views see them: the records of one cell, one from each process, made into one result."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import Case
from attnbench.stages.agreement import JUDGED_TENSORS
from attnbench.views.estimates import CellTiming, sample_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.store.reader import RunFile

CellKey = tuple[str, str, str]
"""(case_id, implementation, device)"""

DISTURBED = frozenset({"invalid", "skipped"})
"""A process that was disturbed, or left out for want of time, says nothing against what the other ones measured."""
NEVER_RAN = frozenset({"unsupported", "unavailable", "skipped"})

_CASE_FIELDS = tuple(field.name for field in dataclasses.fields(Case))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorError:
    """How far one tensor of a cell is from the oracle's answer, in the worst of its processes."""

    tensor: str
    ratio: float
    """Error over budget; above 1 is wrong."""
    worst: tuple[int, ...] | None
    """Where: (batch, head, row, column)."""


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
    timing: CellTiming | None
    memory_bytes: int | None
    """Median of the processes' peaks."""
    memories: tuple[int, ...]
    """The peak of each process that has one."""
    output_bytes: int | None
    """What a call returns; the rest of the peak is workspace."""
    errors: tuple[TensorError, ...]
    deterministic: bool | None
    """Whether all calls on equal inputs gave equal bits, in every process."""
    spread_rel: float | None
    """The largest difference of two calls on equal inputs, RMS over RMS."""
    prepare_ns: float | None
    first_call_ns: float | None
    wall_ns: float | None
    """On CUDA: a call and the wait for it. ``time_ns`` is the device's time there."""
    graph_ns: float | None
    """On CUDA: one call of many in a replayed graph."""
    host_us: float | None
    """On CUDA: what the host needs to launch a call."""
    samples: tuple[tuple[float, ...], ...]
    """Raw samples of each process that was timed, in order, ns."""
    flops: int | None
    bytes: int | None
    peak_tflops: float | None
    peak_gbytes_per_s: float | None

    @property
    def error_ratio(self) -> float | None:
        """The worst error / budget of all tensors in all processes."""
        return max((error.ratio for error in self.errors), default=None)

    @property
    def workspace_bytes(self) -> int | None:
        """Peak less output."""
        if self.memory_bytes is None or self.output_bytes is None:
            return None
        return max(0, self.memory_bytes - self.output_bytes)

    @property
    def gbytes_per_s(self) -> float | None:
        """Least traffic of the case over its time, GB/s."""
        return None if self.timing is None or self.bytes is None else self.bytes / self.timing.value

    @property
    def bound(self) -> str | None:
        """Which measured roof is lower for this case: ``compute`` or ``memory``."""
        if not self.peak_tflops or not self.peak_gbytes_per_s or not self.flops or not self.bytes:
            return None
        return "compute" if self.flops / self.peak_tflops / 1e3 >= self.bytes / self.peak_gbytes_per_s else "memory"

    @property
    def percent_of_roof(self) -> float | None:
        """The time that the lower roof allows over the time that was taken, in percent."""
        if self.timing is None or self.bound is None or not self.peak_tflops or not self.peak_gbytes_per_s:
            return None
        assert self.flops is not None
        assert self.bytes is not None
        least_ns = max(self.flops / self.peak_tflops / 1e3, self.bytes / self.peak_gbytes_per_s)
        return 100 * least_ns / self.timing.value

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
            "time_wall_ns": self.wall_ns,
            "time_graph_ns": self.graph_ns,
            "host_us": self.host_us,
            "prepare_ns": self.prepare_ns,
            "first_call_ns": self.first_call_ns,
            "memory_peak_bytes": self.memory_bytes,
            "memory_output_bytes": self.output_bytes,
            "memory_workspace_bytes": self.workspace_bytes,
            "error_ratio": self.error_ratio,
            "deterministic": self.deterministic,
            "tflops": self.tflops,
            "gbytes_per_s": self.gbytes_per_s,
            "percent_of_peak": self.percent_of_peak,
            "percent_of_roof": self.percent_of_roof,
            "bound": self.bound,
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
        memories=tuple(weighed),
        output_bytes=_median_of(counted, "memory_output_bytes", whole=True),
        errors=_errors(records),
        deterministic=_all_true([record["deterministic"] for record in records]),
        spread_rel=max((r["spread_rel"] for r in records if r["spread_rel"] is not None), default=None),
        prepare_ns=_median_of(counted, "prepare_ns"),
        first_call_ns=_median_of(counted, "first_call_ns"),
        wall_ns=_median_of(timed, "time_wall_ns"),
        graph_ns=_median_of(timed, "time_graph_ns"),
        host_us=_median_of(timed, "host_us"),
        samples=tuple(record["time_samples_ns"] for record in timed if record["time_samples_ns"]),
        flops=said["flops"],
        bytes=said["bytes"],
        peak_tflops=said["peak_tflops"],
        peak_gbytes_per_s=said["peak_gbytes_per_s"],
    )


def _median_of(records: list[dict[str, Any]], name: str, *, whole: bool = False) -> Any:
    """Median of a field over the processes that have it, or ``None``; fields of newer schemas may be missing."""
    values = [record[name] for record in records if record.get(name) is not None]
    if not values:
        return None
    middle = values[0] if len(values) == 1 else statistics.median(values)
    return round(middle) if whole else middle


def _all_true(values: list[bool | None]) -> bool | None:
    known = [value for value in values if value is not None]
    return all(known) if known else None


def _errors(records: list[dict[str, Any]]) -> tuple[TensorError, ...]:
    found = []
    for tensor in JUDGED_TENSORS:
        ratio = f"{tensor}_error_ratio"
        judged = [record for record in records if record[ratio] is not None]
        if judged:
            worst = judged[0] if len(judged) == 1 else max(judged, key=lambda record: record[ratio])
            place = worst[f"{tensor}_error_worst"]
            found.append(TensorError(tensor=tensor, ratio=worst[ratio], worst=tuple(place) if place else None))
    return tuple(found)


def _timing(records: list[dict[str, Any]]) -> CellTiming:
    return CellTiming(
        medians=tuple(record["time_median_ns"] for record in records),
        intervals=tuple(
            sample_interval(record["time_samples_ns"], record["time_ci_low_ns"], record["time_ci_high_ns"])
            for record in records
        ),
    )
