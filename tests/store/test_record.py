"""A record's metrics, their schema and their documentation follow from the declarations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from attnbench.cli.commands.schema import schema
from attnbench.runner.driver import failed
from attnbench.store.record import METRICS, Record, record_of
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
    values = {"time_median_ns": 1.0, "memory_method": "maxrss", "first_call_ns": 5, "flops": 8}
    ending = {"status": "wrong", "stage": "call", "reason": "why"}
    assert failed(values, **ending) == {"first_call_ns": 5, "flops": 8, **ending}


@pytest.fixture
def values() -> dict[str, Any]:
    """Return the fields of a record with the status ok."""
    golden = max((Path(__file__).parent / "golden").glob("*.jsonl"))
    lines = [json.loads(line) for line in golden.read_text().splitlines()]
    ok = next(line for line in lines if line["kind"] == "record" and line["status"] == "ok")
    return {name: value for name, value in ok.items() if name in Record.model_fields}


@pytest.mark.parametrize("odd", [{"out_error_rel": math.nan}, {"time_median_ns": math.inf}, {"backend": ["a", "list"]}])
def test_values_that_no_record_holds_make_one_of_an_error(values: dict[str, Any], odd: dict[str, Any]) -> None:
    record = record_of({**values, **odd})
    (name,) = odd
    assert record.status == "error"
    assert record.reason is not None
    assert record.reason.startswith(f"what was measured makes no record: {name}: ")
    assert record.time_median_ns is None
    json.dumps(record.model_dump(mode="json"), allow_nan=False)


def test_texts_of_plugins_are_stored_without_what_acts_on_a_terminal(values: dict[str, Any]) -> None:
    odd = {"backend": "\x1b[2J\ud800", "reason": "two\nlines\x07"}
    record = record_of({**values, **odd})
    assert (record.backend, record.reason) == (r"\x1b[2J\ud800", "two\nlines\\x07")
    record.model_dump_json()
