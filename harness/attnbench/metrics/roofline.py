"""The model's metrics: operations, bytes, rates, and what the roofline says of them."""

from __future__ import annotations

from typing import Literal

from attnbench.metrics.metric import Metrics, metric


class RooflineMetrics(Metrics, stage="model"):
    """What follows from the case, its time and the machine's peaks."""

    flops: int | None = metric("operations", "Operations of the case, counted over the visible pairs.", unit="flop")
    bytes: int | None = metric("least traffic", "Each tensor read or written once.", unit="bytes")
    tflops: float | None = metric(
        "rate", "flops over time_median_ns.", unit="TFLOP/s", join="median", only_ok=True, better="higher"
    )
    gbytes_per_s: float | None = metric(
        "bandwidth", "bytes over time_median_ns.", unit="GB/s", join="median", only_ok=True, better="higher"
    )
    peak_tflops: float | None = metric(
        "peak rate", "Measured on this machine in this run, for this dtype.", unit="TFLOP/s"
    )
    peak_gbytes_per_s: float | None = metric("peak bandwidth", "Measured on this machine in this run.", unit="GB/s")
    percent_of_peak: float | None = metric(
        "of peak", "tflops in percent of peak_tflops.", unit="%", join="median", only_ok=True, better="higher"
    )
    percent_of_roofline: float | None = metric(
        "of roofline", "Roofline time over measured time, in percent.", unit="%", join="median", only_ok=True,
        better="higher",
    )  # fmt: skip
    bound: Literal["compute", "memory"] | None = metric("bound", "Which roof is lower for this case.", unit="text")
