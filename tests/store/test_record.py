"""What a record's metrics are follows from their declarations, in the schema and in the documentation."""

from __future__ import annotations

import json

import pytest

from attnbench.cli.commands.schema import schema
from attnbench.store.record import METRICS, Record, without_speed
from tests.store import metrics_page


def test_the_page_of_file_formats_lists_every_metric() -> None:
    _, written, _ = metrics_page.parts()
    assert written == metrics_page.table(), "run `make docs`"


def test_the_schema_says_of_a_metric_what_its_declaration_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema("record") == 0
    properties = json.loads(capsys.readouterr().out)["properties"]
    assert list(properties) == list(Record.model_fields)
    for metric in METRICS.values():
        said = properties[metric.name]
        assert (said["title"], said["description"]) == (metric.title, metric.description)
        assert (said["unit"], said["join"], said["only_ok"]) == (metric.unit, metric.join, metric.only_ok)


def test_a_cell_that_is_not_ok_keeps_all_but_its_speed() -> None:
    fields = {"status": "wrong", "time_median_ns": 1.0, "memory_method": "maxrss", "first_call_ns": 5, "flops": 8}
    assert without_speed(fields) == {"status": "wrong", "first_call_ns": 5, "flops": 8}
