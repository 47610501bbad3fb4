"""Metrics of several processes are joined, each as it declares."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench.metrics.join import join_metrics
from attnbench.store.record import METRICS


def joined(name: str, *values: Any, counted: int | None = None, **others: list[Any]) -> Any:
    """Join the values of one metric, one per process, of which the first ``counted`` count."""
    records = [{name: value, **{other: found[i] for other, found in others.items()}} for i, value in enumerate(values)]
    return join_metrics([METRICS[name]], records, records[:counted])[name]


@pytest.mark.parametrize(
    ("name", "values", "one"),
    [
        ("time_median_ns", (100.0, 101.0), 100.5),
        ("memory_peak_bytes", (100, 103, 102, 105), 102),  # bytes are integers, so 102.5 is not allowed
        ("steal_share", (0.1, None, 0.3), 0.3),
        ("warmup_converged", (True, False), False),
        ("warmup_converged", (True, None), True),
        ("launch_bound", (False, True), True),
        ("cache_state", (None, "warm"), "warm"),
        ("throttled_by", (["power cap"], None, ["thermal", "power cap"]), ("power cap", "thermal")),
        ("time_samples_ns", ([1.0, 3.0], [2.0]), (1.0, 3.0, 2.0)),
        ("time_median_ns", (None, None), None),
        ("tflops", (1.0, 3.0), None),  # derived from the joined time instead
    ],
)
def test_each_way_to_join(name: str, values: tuple[Any, ...], one: Any) -> None:
    assert joined(name, *values) == one


def test_the_place_of_an_error_is_that_of_the_process_where_it_is_largest() -> None:
    ratios = [0.2, None, 0.9]
    assert joined("out_error_worst", [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3], out_error_ratio=ratios) == (0, 0, 3, 3)


def test_speed_is_of_those_processes_that_count_and_the_rest_of_all() -> None:
    assert joined("time_median_ns", 100.0, 300.0, counted=1) == 100.0
    assert joined("time_median_ns", 100.0, 300.0, counted=0) is None
    assert joined("steal_share", 0.0, 0.5, counted=1) == 0.5


def test_what_is_joined_by_another_metric_names_one_that_there_is() -> None:
    for metric in METRICS.values():
        assert (metric.join == "at_worst") == bool(metric.worst_by)
        assert not metric.worst_by or METRICS[metric.worst_by].join == "max"
