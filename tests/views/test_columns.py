"""Columns of metrics follow their declarations."""

from __future__ import annotations

import pytest

from attnbench.store.record import METRICS
from attnbench.views import columns
from attnbench.views.document import in_one_unit


def test_a_column_has_the_title_and_the_unit_of_its_metric() -> None:
    column = columns.of_metric("memory_workspace_bytes")
    assert column.title == METRICS["memory_workspace_bytes"].title == "workspace"
    assert column.text({"memory_workspace_bytes": 2**21}) == "2.00 MiB"
    assert column.is_number
    assert not columns.of_metric("throttled_by").is_number


def test_a_column_of_a_metric_that_does_not_exist_cannot_be_made() -> None:
    with pytest.raises(KeyError, match="host_us"):
        columns.of_metric("host_us")


def test_columns_without_a_value_are_left_out() -> None:
    names = ("time_wall_ns", "launch_bound", "steal_share")
    rows = [{"time_wall_ns": None, "launch_bound": False, "steal_share": 0.0}]
    kept = columns.filled([columns.STATUS, *map(columns.of_metric, names)], rows)
    assert [column.title for column in kept] == ["status", "launch-bound", "stolen"]


def test_durations_of_a_column_are_all_in_the_unit_of_the_one_in_the_middle() -> None:
    rows = [{"time_median_ns": ns, "time_ci_method": ""} for ns in (2e5, 1.5e6, 3.25e9)]
    column = in_one_unit(columns.TIME, rows)
    assert column.title == "median, ms"
    assert [column.text(row) for row in rows] == ["0.200", "1.50", "3,250"]


def test_sizes_are_in_a_smaller_unit_where_the_least_would_be_next_to_nothing() -> None:
    rows = [{"memory_peak_bytes": size} for size in (64, 2**30, None, 2**31)]
    column = in_one_unit(columns.MEMORY, rows)
    assert column.title.endswith(", KiB")
    assert [column.text(row) for row in rows] == ["0.0625", "1,048,576", "—", "2,097,152"]


def test_rates_are_in_one_unit_too() -> None:
    column = in_one_unit(columns.of_metric("tflops"), [{"tflops": 0.02}, {"tflops": 0.09}, {"tflops": 0.2}])
    assert [column.title, column.text({"tflops": 0.2})] == ["rate, GFLOP/s", "200"]


def test_both_ends_of_an_interval_are_in_its_unit_and_keep_their_star() -> None:
    ends = {"time_ci_low_ns": 1.25e6, "time_ci_high_ns": 1.5e6}
    rows = [ends | {"time_ci_method": "range"}, ends | {"time_ci_method": "rank"}]
    column = in_one_unit(columns.INTERVAL, rows)
    assert column.title == "95 % interval, ms"
    assert [column.text(row) for row in rows] == ["1.250 … 1.500*", "1.250 … 1.500"]


def test_a_column_of_other_things_stays_as_it_is() -> None:
    assert in_one_unit(columns.STATUS, [{"status": "ok"}]) is columns.STATUS
    assert in_one_unit(columns.TIME, [{"time_median_ns": None}]) is columns.TIME
