"""Cells for views: the records of a cell, one for each process, joined to one result."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.metrics.join import join_metrics
from attnbench.metrics.roofline import roofline
from attnbench.metrics.samples import visit_medians
from attnbench.store.record import DISTURBED, METRICS, CellMetrics, case_of, key_of
from attnbench.views.estimates import CellTiming, Visits, sample_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case
    from attnbench.metrics.metric import Metric
    from attnbench.stages.agreement import TensorError
    from attnbench.store.reader import RunFile
    from attnbench.store.record import CellKey, Fields

NEVER_RAN = frozenset({"unsupported", "unavailable", "skipped"})

PER_CELL = tuple(metric.name for metric in METRICS.values() if not metric.is_per_sample)
"""Names of the metrics with one value for a cell."""
PER_SAMPLE = tuple(metric.name for metric in METRICS.values() if metric.is_per_sample)
_ABSENT = CellMetrics()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """The result of one cell (case, implementation and device) over all of its processes."""

    case: Case
    case_id: str
    implementation: str
    device: str
    tags: tuple[str, ...]
    status: str
    """``ok`` if every process was ok, not counting disturbed ones; else the first other status."""
    stage: str | None
    reason: str | None
    repro: str
    processes: int
    metrics: CellMetrics
    """Each metric joined over the processes as it declares; the interval of the time is from ``timing``."""
    timing: CellTiming | None
    counted: Sequence[Fields]
    """Records of the processes whose speed counts; empty if the cell is not ok."""

    @property
    def key(self) -> CellKey:
        """The key that identifies this cell in any run."""
        return (self.case_id, self.implementation, self.device)

    @property
    def time_ns(self) -> float | None:
        """The median of the processes' medians."""
        return None if self.timing is None else self.timing.value

    @property
    def memories(self) -> tuple[int, ...]:
        """The peak memory of each process that has one."""
        return tuple(peak for record in self.counted if (peak := record["memory_peak_bytes"]) is not None)

    @functools.cached_property
    def errors(self) -> tuple[TensorError, ...]:
        """The error of each tensor that was judged, from the worst of the processes."""
        return self.metrics.errors

    @property
    def error_ratio(self) -> float | None:
        """The worst error / budget of all tensors in all processes."""
        return max((error.ratio for error in self.errors), default=None)

    def numbers(self) -> Fields:
        """Return the case, the outcome and every per-cell metric as flat raw values, units in the names."""
        return {
            "case_id": self.case_id,
            "implementation": self.implementation,
            "device": self.device,
            **self.case.to_dict(),
            "cell_tags": list(self.tags),
            "status": self.status,
            "stage": self.stage,
            "reason": self.reason,
            "processes": self.processes,
            **{name: getattr(self.metrics, name) for name in PER_CELL},
            "time_ci_method": self.timing and self.timing.estimate.method,
            "error_ratio": self.error_ratio,
            "repro": self.repro,
        }


def cells_of(run: RunFile) -> list[CellResult]:
    """Return a run's cells in the order in which they first ran."""
    # Most runs have at most half of the metrics; a metric that no record has is not joined for each cell.
    present = [metric for name, metric in METRICS.items() if any(record[name] is not None for record in run.records)]
    cases: dict[str, Case] = {}  # one object for all cells of a case
    found = []
    for (case_id, _, _), records in grouped(run.records, key_of).items():
        if case_id not in cases:
            cases[case_id] = case_of(records[0])
        found.append(_result(records, cases[case_id], present))
    return found


def _result(records: list[Fields], case: Case, present: Sequence[Metric]) -> CellResult:
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
    timing = _timing(counted)
    return CellResult(
        case=case,
        case_id=said["case_id"],
        implementation=said["implementation"],
        device=said["device"],
        tags=tuple(said["cell_tags"] or ()),
        status=said["status"],
        stage=said["stage"],
        reason=reason,
        repro=said["repro"],
        processes=len(records),
        metrics=_metrics(join_metrics(present, records, counted), timing, case.new_tokens),
        timing=timing,
        counted=counted,
    )


def _metrics(joined: Fields, timing: CellTiming | None, tokens: int | None) -> CellMetrics:
    # Values are not validated again, which would take longer than everything else here.
    found = _ABSENT.model_copy(update=joined)
    peaks = (found.peak_tflops, found.peak_gbytes_per_s)
    model = roofline(found.flops, found.bytes, found.time_median_ns, *peaks, tokens)
    ends = {} if timing is None else {"time_ci_low_ns": timing.estimate.low, "time_ci_high_ns": timing.estimate.high}
    return found.model_copy(update={**ends, **dict(model)})


def _timing(counted: list[Fields]) -> CellTiming | None:
    timed = [record for record in counted if record["time_median_ns"] is not None]
    if not timed:
        return None
    return CellTiming(
        medians=tuple(record["time_median_ns"] for record in timed),
        intervals=tuple(
            sample_interval(
                record["time_samples_ns"],
                record["time_ci_low_ns"],
                record["time_ci_high_ns"],
                len(record["time_visits"] or ()),
            )
            for record in timed
        ),
        visits=tuple(map(_visits, timed)),
    )


def _visits(record: Fields) -> Visits | None:
    counts, samples = record["time_visits"], record["time_samples_ns"]
    if not counts or not samples:
        return None
    return Visits(
        run=record["run_id"],
        medians=tuple(visit_medians(samples, counts)),
        drift=record["machine_drift"] or 0.0,
    )
