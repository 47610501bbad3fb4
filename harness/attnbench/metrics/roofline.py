"""Metrics of the model: operations, bytes, rates, and their relation to the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnbench.metrics.metric import Metrics, metric

if TYPE_CHECKING:
    from collections.abc import Mapping

POSSIBLE = {"cuda": 1.05, "cpu": 2.5}
"""Largest credible ratio of a rate to the measured peak. A matrix product comes close to a GPU's limit. On a CPU,
libraries may use vectors of half the width (MKL and OpenBLAS on AMD's processors with AVX-512), and a good kernel may
use the full width."""


class RooflineMetrics(Metrics, stage="model"):
    """Rates that follow from the case, its time and the machine's peaks."""

    flops: int | None = metric("operations", "Operations of the case, counted over the visible pairs.", unit="flop")
    bytes: int | None = metric("least traffic", "Each tensor read or written once.", unit="bytes")
    tflops: float | None = metric(
        "rate", "flops over time_median_ns.", unit="TFLOP/s", join="derived", only_ok=True, better="higher"
    )
    gbytes_per_s: float | None = metric(
        "bandwidth", "bytes over time_median_ns.", unit="GB/s", join="derived", only_ok=True, better="higher"
    )
    tokens_per_s: float | None = metric(
        "tokens", "Of a ragged batch: new tokens of its requests over time_median_ns.", unit="tokens/s", join="derived",
        only_ok=True, better="higher",
    )  # fmt: skip
    peak_tflops: float | None = metric("peak rate", "Measured on this machine, for this dtype.", unit="TFLOP/s")
    peak_gbytes_per_s: float | None = metric("peak bandwidth", "Measured on this machine.", unit="GB/s")
    percent_of_peak: float | None = metric(
        "of peak", "tflops in percent of peak_tflops.", unit="%", join="derived", only_ok=True, better="higher"
    )
    percent_of_roofline: float | None = metric(
        "of roofline", "Roofline time over measured time, in percent.", unit="%", join="derived", only_ok=True,
        better="higher",
    )  # fmt: skip
    bound: Literal["compute", "memory"] | None = metric(
        "bound", "Which roof is lower for this case.", unit="text", join="derived"
    )

    @property
    def intensity(self) -> float | None:
        """Operations per byte of the least traffic."""
        return self.flops / self.bytes if self.flops is not None and self.bytes else None


def roofline(
    operations: int | None,
    moved: int | None,
    median_ns: float | None,
    peak_tflops: float | None,
    peak_gbytes_per_s: float | None,
    tokens: int | None = None,
) -> RooflineMetrics:
    """Return the model's metrics of a case and its time; those that need a missing time or peak are ``None``.

    Args:
        operations: operations of the case.
        moved: least traffic of the case, bytes.
        median_ns: time of one call.
        peak_tflops: the machine's peak rate in the dtype.
        peak_gbytes_per_s: the machine's peak bandwidth.
        tokens: new tokens of a serving batch.
    """
    tflops = operations / median_ns / 1e3 if operations is not None and median_ns else None
    bound: Literal["compute", "memory"] | None = None
    least_ns = None
    if operations is not None and moved is not None and peak_tflops and peak_gbytes_per_s:
        compute_ns, memory_ns = operations / peak_tflops / 1e3, moved / peak_gbytes_per_s
        bound = "compute" if compute_ns >= memory_ns else "memory"
        least_ns = max(compute_ns, memory_ns)
    return RooflineMetrics(
        flops=_in_a_column(operations),
        bytes=_in_a_column(moved),
        tflops=tflops,
        gbytes_per_s=moved / median_ns if moved is not None and median_ns else None,
        tokens_per_s=1e9 * tokens / median_ns if tokens is not None and median_ns else None,
        peak_tflops=peak_tflops,
        peak_gbytes_per_s=peak_gbytes_per_s,
        percent_of_peak=100 * tflops / peak_tflops if tflops is not None and peak_tflops else None,
        percent_of_roofline=100 * least_ns / median_ns if least_ns is not None and median_ns else None,
        bound=bound,
    )


def _in_a_column(count: int | None) -> int | None:
    """Return the count if it fits a table's 64-bit column; cases too large for any machine may exceed it."""
    return count if count is not None and count < 2**63 else None


def peak_of(dtype: str, tflops: Mapping[str, float], device: str) -> float | None:
    """Return the peak rate of matrix products that a kernel in ``dtype`` is compared with; ``None`` if not measured.

    On a CPU, 16-bit numbers can always be converted to float32 first. If a library has no fast product for them (that
    of float16 is often a hundred times slower), the float32 product is what the machine can do.
    """
    peak = tflops.get(dtype)
    if device == "cpu" and dtype in {"float16", "bfloat16"}:
        return max((one for one in (peak, tflops.get("float32")) if one), default=None)
    return peak


def impossible(model: RooflineMetrics, device: str, fastest_gbytes_per_s: float | None) -> str | None:
    """Return why a measured rate cannot be true, or ``None``.

    Bandwidth is checked on CUDA only, where the cache is flushed before every sample; a call with a warm cache can
    exceed the memory's bandwidth.

    Args:
        model: the rates.
        device: ``cpu`` or ``cuda``.
        fastest_gbytes_per_s: highest measured bandwidth of the device's memory, reading or copying.
    """
    verdict = "measured on this machine: work was skipped, or not waited for"
    percent, moved = model.percent_of_peak, model.gbytes_per_s
    if percent is not None and percent > 100 * POSSIBLE[device]:
        peak = f"{percent:.0f} % of the peak of {model.peak_tflops:.3g}"
        return f"{model.tflops:.3g} TFLOP/s is {peak} that was {verdict}"
    if device == "cuda" and moved and fastest_gbytes_per_s and moved > POSSIBLE[device] * fastest_gbytes_per_s:
        share = 100 * moved / fastest_gbytes_per_s
        return f"{moved:.4g} GB/s is {share:.0f} % of the {fastest_gbytes_per_s:.4g} that was {verdict}"
    return None
