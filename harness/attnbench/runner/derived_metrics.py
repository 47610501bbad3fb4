"""From what the stages gave to a whole record: statistics of the samples, and the model's figures."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from attnbench.cases.cost import flops, minimum_bytes
from attnbench.metrics.median import median_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.cases.case import Case

POSSIBLE = {"cuda": 1.05, "cpu": 2.0}
"""How far above the measured peak a rate may lie and still be believed. A matrix product comes near to a GPU's limit;
on a CPU a library's product can leave half of the multiply-add units idle, so a good kernel may well be ahead of it."""


def time_statistics(samples: Sequence[float]) -> dict[str, Any]:
    """Median with its 95 % interval, quartiles, minimum, and how many samples lie above q3 + 3 IQR."""
    ordered = sorted(samples)
    interval = median_interval(ordered)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    return {
        "time_median_ns": statistics.median(ordered),
        "time_ci_low_ns": interval[0] if interval else None,
        "time_ci_high_ns": interval[1] if interval else None,
        "time_min_ns": ordered[0],
        "time_q1_ns": quartiles[0],
        "time_q3_ns": quartiles[2],
        "time_outliers": sum(1 for sample in ordered if sample > quartiles[2] + 3 * (quartiles[2] - quartiles[0])),
    }


def peak_of(dtype: str, tflops: Mapping[str, float], device: str) -> float | None:
    """The rate of matrix products that a kernel in ``dtype`` is measured by; ``None`` where none was measured.

    On a CPU numbers of 16 bits can always be made float32 on the way in. Where a library has no fast product of them
    (that of float16 is often a hundred times slower), its float32 product is what the machine can do.
    """
    peak = tflops.get(dtype)
    if device == "cpu" and dtype in {"float16", "bfloat16"}:
        return max((one for one in (peak, tflops.get("float32")) if one), default=None)
    return peak


def model(case: Case, median_ns: float | None, peaks: Mapping[str, Any] | None, device: str) -> dict[str, Any]:
    """Operations, bytes, rates, and what the roofline says of them.

    Args:
        case: the problem.
        median_ns: time of one call, where it was measured.
        peaks: what :func:`attnbench.machine.peaks.measure_peaks` gave for the device.
        device: ``cpu`` or ``cuda``.
    """
    operations, moved = flops(case), minimum_bytes(case)
    fields: dict[str, Any] = {"flops": _in_a_column(operations), "bytes": _in_a_column(moved)}
    peak_tflops = peak_of(case.dtype, (peaks or {}).get("tflops", {}), device)
    peak_gbytes = (peaks or {}).get("gbytes_per_s")
    fields |= {"peak_tflops": peak_tflops, "peak_gbytes_per_s": peak_gbytes}
    if median_ns:
        fields["tflops"] = operations / median_ns / 1e3
        fields["gbytes_per_s"] = moved / median_ns
    if peak_tflops and peak_gbytes:
        compute_ns, memory_ns = operations / peak_tflops / 1e3, moved / peak_gbytes
        fields["bound"] = "compute" if compute_ns >= memory_ns else "memory"
        if median_ns:
            fields["percent_of_roofline"] = 100 * max(compute_ns, memory_ns) / median_ns
    if peak_tflops and median_ns:
        fields["percent_of_peak"] = 100 * fields["tflops"] / peak_tflops
    return fields


def _in_a_column(count: int) -> int | None:
    """The count, where tables have room for it; a case that no machine could run may cost more."""
    return count if count < 2**63 else None


def impossible(fields: Mapping[str, Any], device: str, peaks: Mapping[str, Any] | None = None) -> str | None:
    """Why a measured rate cannot be true, or ``None``.

    Bytes are judged on CUDA only, where every sample finds the cache flushed: a warm one may honestly beat the memory.
    """
    verdict = "measured on this machine: work was skipped, or not waited for"
    percent = fields.get("percent_of_peak")
    if percent is not None and percent > 100 * POSSIBLE[device]:
        return (
            f"{fields['tflops']:.3g} TFLOP/s is {percent:.0f} % of the peak of {fields['peak_tflops']:.3g} that was "
            f"{verdict}"
        )
    moved = fields.get("gbytes_per_s")
    fastest = max((peaks or {}).get(name) or 0.0 for name in ("gbytes_per_s", "read_gbytes_per_s"))
    if device == "cuda" and moved and fastest and moved > POSSIBLE[device] * fastest:
        return f"{moved:.4g} GB/s is {100 * moved / fastest:.0f} % of the {fastest:.4g} that was {verdict}"
    return None


def complete(fields: dict[str, Any], case: Case, device: str, peaks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add statistics and model to a cell's fields; a rate that cannot be true makes the cell ``invalid``."""
    samples = fields.get("time_samples_ns")
    statistics_of_time = time_statistics(samples) if samples else {}
    modelled = model(case, statistics_of_time.get("time_median_ns"), peaks, device)
    output = fields.get("memory_output_bytes")
    if fields.get("memory_peak_bytes") is not None and output is not None:
        # What a call returns was alive at its end; below the resolution the counter may not have seen it.
        peak = max(fields["memory_peak_bytes"], output)
        fields |= {"memory_peak_bytes": peak, "memory_workspace_bytes": peak - output}
    why_not = impossible(modelled, device, peaks)
    if why_not:
        kept = {name: value for name, value in fields.items() if not name.startswith(("time_", "memory_"))}
        model_only = model(case, None, peaks, device)
        return {**kept, **model_only, "status": "invalid", "stage": "time", "reason": why_not}
    return {**fields, **statistics_of_time, **modelled}
