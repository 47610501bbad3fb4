"""Prepare: the case's tensors, and whatever the implementation does once ahead of its calls."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class PrepareMetrics(Metrics, stage="prepare"):
    """What preparing takes."""

    prepare_ns: int | None = metric(
        "prepare", "Masks, plans, compilation ahead of the first call.", unit="ns", join="median", better="lower"
    )
