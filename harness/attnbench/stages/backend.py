"""Back end: what really ran."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class BackendMetrics(Metrics, stage="backend"):
    """What really ran."""

    backend: str | None = metric("back end", "What really ran: the back end chosen, the kernel's name.", unit="text")
