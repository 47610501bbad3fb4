"""Identities: other ways to the same answer, which need no reference."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class IdentityMetrics(Metrics, stage="identities"):
    """How far other ways to the same answer are from it."""

    identities: tuple[str, ...] | None = metric(
        "identities",
        "Other ways to the same answer that were looked at, such as keys-in-another-order.",
        unit="text",
        join="union",
    )
    identity_error_ratio: float | None = metric(
        "identity error / budget",
        "How far they are apart, over what rounding explains: the worst of them.",
        unit="ratio",
        join="max",
        better="lower",
    )
