"""Extra times, on an accelerator: of a graph's replay, at the host's clock, and of the kernels alone."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class ExtraTimeMetrics(Metrics, stage="time"):
    """Times beside the one that is compared."""

    time_graph_ns: float | None = metric(
        "graph", "CUDA: one call of a graph over rotated inputs, without launches and gaps.", unit="ns",
        join="median", only_ok=True, better="lower",
    )  # fmt: skip
    time_wall_ns: float | None = metric(
        "wall", "CUDA: host's time from the call to the end of its work.", unit="ns", join="median", only_ok=True,
        better="lower",
    )  # fmt: skip
    time_kernel_ns: float | None = metric(
        "kernels", "CUDA: kernels of one call added up, by the profiler.", unit="ns", join="median", only_ok=True,
        better="lower",
    )  # fmt: skip
    graph_refused: str | None = metric("no graph", "Why there is no time_graph_ns.", unit="text")
