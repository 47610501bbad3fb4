"""Memory: the highest footprint of one call above what was there before it."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class MemoryMetrics(Metrics, stage="memory"):
    """The memory of one call; its inputs are not counted."""

    memory_peak_bytes: int | None = metric(
        "peak memory", "Highest footprint of one call above what was there.", unit="bytes", join="median",
        only_ok=True, better="lower",
    )  # fmt: skip
    memory_output_bytes: int | None = metric(
        "output", "Bytes of what the call returns.", unit="bytes", join="median", only_ok=True
    )
    memory_workspace_bytes: int | None = metric(
        "workspace", "Peak less output.", unit="bytes", join="median", only_ok=True, better="lower"
    )
    memory_reserved_bytes: int | None = metric(
        "reserved", "CUDA: highest that torch's allocator took for a call.", unit="bytes", join="median",
        only_ok=True, better="lower",
    )  # fmt: skip
    memory_device_bytes: int | None = metric(
        "device memory",
        "CUDA: what the device had less after a call; shows what is allocated outside torch.",
        unit="bytes", join="median", only_ok=True, better="lower",
    )  # fmt: skip
    memory_method: str | None = metric("method", "How memory was measured.", unit="text", only_ok=True)
    memory_resolution_bytes: int | None = metric(
        "resolution", "What the same method reads for an empty call.", unit="bytes", join="max", only_ok=True
    )
