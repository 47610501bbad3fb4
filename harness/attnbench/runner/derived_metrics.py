"""Derives a whole record from the stages' values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.cases.cost import flops, minimum_bytes
from attnbench.cases.tensors.errors import TensorError
from attnbench.metrics.roofline import RooflineMetrics, impossible, peak_of, roofline
from attnbench.metrics.samples import time_statistics
from attnbench.runner.driver import failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.cases.case import Case
    from attnbench.stages.stage import Values


def model(case: Case, median_ns: float | None, peaks: Mapping[str, Any] | None, device: str) -> RooflineMetrics:
    """Return the roofline metrics of a case."""
    peaks = peaks or {}
    peak = peak_of(case.dtype, peaks.get("tflops", {}), device)
    try:
        operations = flops(case)
    except TensorError:
        return RooflineMetrics()  # a mask without its file has no known number of pairs
    bandwidth = peaks.get("gbytes_per_s")
    return roofline(operations, minimum_bytes(case), median_ns, peak, bandwidth, case.new_tokens)


def complete(fields: Values, case: Case, device: str, peaks: Mapping[str, Any] | None) -> Values:
    """Add statistics and roofline metrics to a cell's fields; an impossible rate makes the cell ``invalid``."""
    samples = fields.get("time_samples_ns")
    visits, drift = fields.get("time_visits"), fields.get("machine_drift")
    statistics_of_time = time_statistics(samples, visits, drift or 0.0) if samples else {}
    modelled = model(case, statistics_of_time.get("time_median_ns"), peaks, device)
    output = fields.get("memory_output_bytes")
    if fields.get("memory_peak_bytes") is not None and output is not None:
        # The output was alive at the end of the call, even if the counter's resolution is too coarse to show it.
        peak = max(fields["memory_peak_bytes"], output)
        fields |= {"memory_peak_bytes": peak, "memory_workspace_bytes": peak - output}
    speeds = [speed for name in ("gbytes_per_s", "read_gbytes_per_s") if (speed := (peaks or {}).get(name))]
    why_not = impossible(modelled, device, max(speeds, default=None))
    if why_not:
        return failed({**fields, **dict(model(case, None, peaks, device))}, "time", "invalid", why_not)
    return {**fields, **statistics_of_time, **dict(modelled)}
