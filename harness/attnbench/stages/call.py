"""Call: the first calls of all, compared with each other bit by bit."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class CallMetrics(Metrics, stage="call"):
    """What the first calls show."""

    first_call_ns: int | None = metric(
        "first call", "The first call of all: compilation, lazy set-up.", unit="ns", join="median", better="lower"
    )
    deterministic: bool | None = metric(
        "deterministic", "All calls on equal inputs gave bitwise equal outputs.", unit="yes/no", join="all"
    )
    spread_rel: float | None = metric(
        "spread",
        "RMS of the difference of two calls on equal inputs over RMS, the largest seen; 0 if equal.",
        unit="ratio",
        join="max",
        better="lower",
    )
