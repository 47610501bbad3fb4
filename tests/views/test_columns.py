"""Columns of metrics are what their declarations say."""

from __future__ import annotations

import pytest

from attnbench.store.record import METRICS
from attnbench.views import columns


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
