"""A run file is read strictly, except for a torn last line left by a killed run."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import attnbench
from attnbench.store import reader
from attnbench.store.reader import RunFileError, read_run
from attnbench.store.record import SCHEMA_VERSION, Record

GOLDEN = Path(__file__).parent / "golden"
LINES = (GOLDEN / "v1.jsonl").read_bytes().splitlines(keepends=True)

Write = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path) -> Write:
    """Return a function that writes lines, given as bytes or JSON objects."""

    def write(*lines: bytes | dict[str, Any]) -> Path:
        path = tmp_path / "run.jsonl"
        path.write_bytes(b"".join(x if isinstance(x, bytes) else json.dumps(x).encode() + b"\n" for x in lines))
        return path

    return write


def changed(line: bytes, **fields: Any) -> dict[str, Any]:
    """Return a line with some fields changed; ``None`` is a value, too."""
    return {**json.loads(line), **fields}


def without(line: bytes, name: str) -> dict[str, Any]:
    """Return a line without a field."""
    return {key: value for key, value in json.loads(line).items() if key != name}


def refusal(path: Path) -> str:
    """Return the message with which the file is refused."""
    with pytest.raises(RunFileError) as refused:
        read_run(path)
    return str(refused.value).replace(f"{path}", "FILE")


def test_every_schema_version_has_a_golden_file_that_can_still_be_read() -> None:
    versions = sorted(GOLDEN.glob("v*.jsonl"))
    assert [path.stem for path in versions] == [f"v{version}" for version in range(1, SCHEMA_VERSION + 1)]
    for path in versions:
        assert read_run(path).is_complete
        for record in read_run(path).records:
            Record.model_validate(record)


def test_a_run_file_of_version_1_reads_as_it_was_written() -> None:
    run = read_run(GOLDEN / "v1.jsonl")
    assert run.header.scenario_name == "golden"
    assert run.header.baseline == "naive/numpy"
    assert [record["status"] for record in run.records] == ["ok", "wrong", "unsupported"]
    assert run.records[0]["time_median_ns"] == 125_000
    assert run.records[0]["dq_error_worst"] == [1, 3, 17, 5]
    assert run.records[1]["out_error_ratio"] == 3.2
    assert run.footer is not None
    assert run.footer.wall_s == 12.5
    assert run.warnings == []


def test_records_have_every_field_in_the_order_of_the_format_and_absent_ones_are_none(file: Write) -> None:
    run = read_run(file(LINES[0], without(LINES[1], "backend"), *LINES[2:]))
    assert all(list(record) == list(Record.model_fields) for record in run.records)
    assert run.records[0]["backend"] is None


def test_a_torn_last_line_is_dropped_and_said(file: Write) -> None:
    run = read_run(file(*LINES[:3], LINES[3][:100]))
    assert [record["status"] for record in run.records] == ["ok", "wrong"]
    assert run.warnings[0].endswith("run.jsonl: the last line is torn and was dropped (100 bytes)")


def test_a_last_line_without_its_newline_is_torn_because_resume_cuts_it_off(file: Write) -> None:
    assert len(read_run(file(*LINES[:3], LINES[3].rstrip(b"\n"))).records) == 2


def test_a_run_that_was_killed_says_what_is_missing(file: Write) -> None:
    run = read_run(file(*LINES[:3]))
    assert not run.is_complete
    assert run.footer is None
    assert run.warnings == [f"{run.path} is incomplete: 2 of 3 planned records are there"]


def test_a_cell_counts_once_however_many_records_it_has(file: Write) -> None:
    again = changed(LINES[1], record_id="another", time_median_ns=1.0)
    run = read_run(file(*LINES[:3], again, LINES[2]))
    assert run.records == read_run(file(*LINES[:3])).records
    assert not run.is_complete
    assert run.warnings == [
        f"{run.path} has more than one record of a cell: the first of each counts, and 2 are left out",
        f"{run.path} is incomplete: 2 of 3 planned records are there",
    ]
    replicates = [changed(LINES[1], replicate=replicate) for replicate in range(3)]
    assert len(read_run(file(LINES[0], *replicates)).records) == 3


def test_a_name_that_stands_for_two_sources_is_said(file: Write) -> None:
    lines = [changed(LINES[1], replicate=replicate, source_hash=f"{replicate}" * 12) for replicate in range(3)]
    run = read_run(file(LINES[0], *lines))
    assert run.warnings == [f"{run.path}: the code of torch/sdpa changed between its records"]


def test_a_resumed_run_has_a_footer_for_each_sitting(file: Write) -> None:
    interrupted = changed(LINES[-1], interrupted=True, wall_s=2.0)
    run = read_run(file(LINES[0], LINES[1], interrupted, LINES[2], LINES[3], LINES[-1]))
    assert [footer.wall_s for footer in run.footers] == [2.0, 12.5]
    assert run.footer is not None
    assert not run.footer.interrupted
    assert run.is_complete


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(LINES))))
    assert len(read_run("-").records) == 3


def test_a_file_of_a_newer_attnbench_is_refused_in_one_sentence(file: Write) -> None:
    path = file(changed(LINES[0], schema_version=SCHEMA_VERSION + 1, something_new=1), *LINES[1:])
    assert refusal(path) == (
        f"FILE was written by a newer attnbench (schema {SCHEMA_VERSION + 1}; this one reads up to {SCHEMA_VERSION})"
    )


def test_a_record_of_a_newer_attnbench_behind_an_older_header_is_refused_too(file: Write) -> None:
    path = file(LINES[0], changed(LINES[1], schema_version=SCHEMA_VERSION + 1))
    newer = f"schema {SCHEMA_VERSION + 1}; this one reads up to {SCHEMA_VERSION}"
    assert refusal(path) == f"FILE was written by a newer attnbench ({newer})"


def test_an_older_file_goes_through_every_upgrade_in_turn(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_2(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "seed": line["seed"] + 1}

    def to_3(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "seed": line["seed"] * 10}

    monkeypatch.setattr(reader, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(reader, "UPGRADES", {1: to_2, 2: to_3})
    run = read_run(
        file(changed(LINES[0], seed=4), changed(LINES[1], seed=0), changed(LINES[2], schema_version=2, seed=5))
    )
    assert run.header.seed == 50
    assert [record["seed"] for record in run.records] == [10, 50]
    assert {record["schema_version"] for record in run.records} == {3}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([b""], "FILE is not a run file: it has no complete line"),
        ([b'{"kind": "hea'], "FILE is not a run file: it has no complete line"),
        ([LINES[1]], "FILE is not a run file: its first line is no header"),
        ([b"[1, 2]\n"], "FILE, line 1, is not a JSON object"),
        ([changed(LINES[0], colour="red")], "FILE, line 1, is no header: colour: Extra inputs are not permitted"),
        ([without(LINES[0], "machine_key")], "FILE, line 1, is no header: machine_key: Field required"),
        ([changed(LINES[0], schema_version=0)], "FILE, line 1, has the schema_version 0, which never was"),
        (
            [LINES[0], LINES[0]],
            "FILE, line 2, is a second header: give runs one by one instead of joined into one file",
        ),
        ([LINES[0], {"kind": "note"}], "FILE, line 2, is neither a record, a part nor a footer (its kind is 'note')"),
        ([LINES[0], without(LINES[1], "repro")], "FILE, line 2, is a record without repro"),
        (
            [LINES[0], changed(LINES[1], colour="red")],
            f"FILE, line 2, is a record with fields that schema {SCHEMA_VERSION} has not: colour",
        ),
        (
            [LINES[0], changed(LINES[1], status="fine")],
            "FILE, line 2, is a record whose status is 'fine', which cannot be",
        ),
        (
            [LINES[0], changed(LINES[2], time_median_ns=1.0)],
            "FILE, line 2, is a record with status 'wrong' and yet a time",
        ),
        (
            [LINES[0], changed(LINES[1], time_visits=[2, 5])],
            "FILE, line 2, is a record whose time_visits do not add up to its samples",
        ),
        (
            [LINES[0], changed(LINES[1], time_visits=[0, 6])],
            "FILE, line 2, is a record whose time_visits do not add up to its samples",
        ),
        (
            [LINES[0], changed(LINES[1], time_visits="all")],
            "FILE, line 2, is a record whose time_visits is 'all', not a list or null",
        ),
        (
            [LINES[0], changed(LINES[1], ranks=2)],
            f"FILE, line 2, is a record of {json.loads(LINES[1])['implementation']!r} and yet has ranks 2",
        ),
        *(
            (
                [LINES[0], changed(LINES[1], implementation=f"ring/torch{named}", ranks=ranks)],
                f"FILE, line 2, is a record of 'ring/torch{named}' and yet has ranks {ranks}",
            )
            for named, ranks in (("", 2), ("@2", None), ("@2", 4), ("@0", 0), ("@02", 2))
        ),
        ([LINES[0], without(LINES[-1], "wall_s")], "FILE, line 2, is no footer: wall_s: Field required"),
    ],
)
def test_what_is_no_run_file_is_refused_with_its_line(file: Write, lines: list[Any], sentence: str) -> None:
    assert refusal(file(*lines)) == sentence


def test_damage_before_the_last_line_is_refused(file: Write) -> None:
    sentence = refusal(file(LINES[0], LINES[1][:100] + b"\n", LINES[2]))
    assert sentence.startswith("FILE, line 2, is not JSON: Unterminated string")


def test_not_a_number_is_no_number(file: Write) -> None:
    line = LINES[1].replace(b'"wall_s": 0.75', b'"wall_s": NaN')
    assert line != LINES[1]
    assert refusal(file(LINES[0], line)) == "FILE, line 2, is not JSON: NaN is no JSON number"


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.jsonl") == "FILE cannot be read: No such file or directory"


def test_a_table_has_a_column_for_each_field_for_the_path_and_for_the_machine() -> None:
    table = attnbench.load(GOLDEN / "v1.jsonl", GOLDEN / "v1.jsonl")
    assert list(table.columns) == [*Record.model_fields, "path", "machine_key"]
    assert len(table) == 6
    assert set(table["path"]) == {str(GOLDEN / "v1.jsonl")}


def test_in_a_table_numbers_are_numbers_lists_stay_lists_and_absent_is_na() -> None:
    table = attnbench.load(GOLDEN / "v1.jsonl")
    assert table.loc[0, "memory_peak_bytes"] == 40_960
    assert table.loc[0, "kv_lengths"] == [64, 32]
    assert table.loc[0, "deterministic"]
    for name in ("memory_peak_bytes", "time_median_ns", "deterministic", "reason", "softcap"):
        assert table[name].isna().any(), name
    assert pd.api.types.is_float_dtype(table["time_median_ns"])
    assert table["memory_peak_bytes"].dtype == "Int64"
    assert table["seqlen_q"].dtype == "int64", "what is never absent is plain"


def test_a_column_has_the_same_type_whatever_a_run_happens_to_hold(file: Write) -> None:
    whole = attnbench.load(GOLDEN / "v1.jsonl")
    only_failures = attnbench.load(file(changed(LINES[0], cells_planned=2), *LINES[2:]))
    nothing = attnbench.load(file(changed(LINES[0], cells_planned=0)))
    assert list(only_failures.dtypes) == list(whole.dtypes)
    assert list(nothing.dtypes) == list(whole.dtypes)


def test_loading_a_torn_file_warns(file: Write) -> None:
    with pytest.warns(UserWarning, match="torn") as warned:
        attnbench.load(file(changed(LINES[0], cells_planned=1), LINES[1], b'{"ki'))
    assert warned[0].filename == __file__


LATEST = (GOLDEN / f"v{SCHEMA_VERSION}.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_peak_bytes", -1), ("flops", -1), ("bytes", -1), ("peak_tflops", 1e-300), ("out_error_ratio", -0.5),
        ("machine_drift", 1e200), ("machine_drift", -1.0), ("heartbeat_ns", -1.0), ("calls_per_sample", -1),
    ],
)  # fmt: skip
def test_numbers_that_cannot_have_been_measured_are_refused(file: Write, name: str, value: float) -> None:
    with pytest.raises(RunFileError, match=name):
        read_run(file(LATEST[0], changed(LATEST[1], **{name: value})))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"out_error_ratio": 1e9}, "status 'ok' and yet out_error_ratio 1e"),
        ({"sample_error_ratio": 1.5}, "status 'ok' and yet sample_error_ratio 1.5"),
        ({"time_ci_low_ns": 1e6, "time_ci_high_ns": 1e3}, "time_ci_low_ns is above its time_ci_high_ns"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(file: Write, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RunFileError, match=said):
        read_run(file(LATEST[0], changed(LATEST[1], **fields)))


def test_a_name_that_no_table_could_show_is_refused(file: Write) -> None:
    with pytest.raises(RunFileError, match="implementation is longer than 200 characters"):
        read_run(file(LATEST[0], changed(LATEST[1], implementation="a" * 1_000_000)))


def test_errors_may_be_as_large_as_gradients_of_large_logits(file: Write) -> None:
    """A check of correct kernels wrote 7e144, and its file could not be read back."""
    run = read_run(file(LATEST[0], changed(LATEST[1], dq_error_rel=2.8e141, dq_error_budget=7e144)))
    assert run.records[0]["dq_error_budget"] == 7e144


@pytest.mark.parametrize(
    "peaks", [{"tflops": {"float32": "fast"}}, {"tflops": 3}, {"gbytes_per_s": -1.0}, {"read_gbytes_per_s": 1e300}]
)
def test_peaks_that_no_machine_has_are_refused(file: Write, peaks: dict[str, Any]) -> None:
    with pytest.raises(RunFileError, match="is not a rate"):
        read_run(file(changed(LATEST[0], peaks={"cpu": peaks}), LATEST[1]))


def test_tensors_of_a_file_had_one_layout_before_it_could_be_said(file: Write) -> None:
    run = read_run(file(LINES[0], changed(LINES[1], inputs="file:/data/mine.npz")))
    assert run.records[0]["inputs_layout"] == "bhsd"
    assert read_run(file(*LINES)).records[0]["inputs_layout"] is None
