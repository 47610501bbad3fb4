"""Runs shared by machines of several kinds: shown separately, or compared on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import attnbench
from attnbench.cases.case import make_case
from attnbench.errors import UsageError
from attnbench.store.machines import by_machine
from attnbench.store.reader import RunFileError, read_run
from tests.views.conftest import timed, write
from tests.views.report.parsed_page import page_of, section

CASES = [make_case(seqlen_q=n) for n in (128, 256)]


def part(run_id: str, **given: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "created_at": "2026-11-24T08:00:00+00:00", "libraries": {}, "peaks": {},
        "environment": {"cpu_model": f"Imaginary {run_id}"}, "machine_key": f"v1-{run_id}", "threads": 2,
    } | given  # fmt: skip


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Write a run: the first case is faster on one machine, the second on the other; a/a and b/b swap ranks, too."""
    times = {"x": ((1e6, 2e6), (9e6, 8e6)), "y": ((3e6, 4e6), (5e6, 6e6))}
    lines = [
        timed(case, name, ns, run_id=machine)
        for machine, of_cases in times.items()
        for case, of_case in zip(CASES, of_cases, strict=True)
        for name, ns in zip(("a/a", "b/b"), of_case, strict=True)
    ]
    return write(tmp_path / "shared.jsonl", lines, parts=[part("x"), part("y")], machine_key="v1-x")


def test_each_kind_of_machine_is_a_run_of_its_own(shared: Path) -> None:
    run = read_run(shared)
    assert (len(run.records), run.warnings) == (8, [])
    one, other = by_machine(run)
    assert (one.machine, other.machine) == ("Imaginary x", "Imaginary y")
    assert other.header.machine_key == "v1-y"
    assert {record["run_id"] for record in other.records} == {"y"}
    assert by_machine(one) == [one]


def test_a_run_of_one_kind_in_parts_stays_as_it_is(tmp_path: Path) -> None:
    lines = [timed(CASES[0], "a/a", 1e6, run_id="x"), timed(CASES[1], "a/a", 1e6, run_id="y")]
    alike = [part("x", machine_key=None), part("y", machine_key="v1-x")]
    run = read_run(write(tmp_path / "run.jsonl", lines, parts=alike, machine_key="v1-x"))
    assert by_machine(run) == [run]


def test_a_part_may_have_a_line_of_its_own_and_one_that_is_none_is_refused(shared: Path) -> None:
    head, *rest = shared.read_text().splitlines(keepends=True)
    header = json.loads(head)
    parts = [json.dumps({"kind": "part", **one}) + "\n" for one in header.pop("parts")]
    shared.write_text("".join([json.dumps(header) + "\n", *parts, *rest]))
    assert [one.machine for one in by_machine(read_run(shared))] == ["Imaginary x", "Imaginary y"]
    shared.write_text("".join([head, json.dumps({"kind": "part", "run_id": 7}) + "\n", *rest]))
    with pytest.raises(RunFileError, match="line 2, is no part"):
        read_run(shared)


def test_implementations_are_compared_within_a_machine(shared: Path) -> None:
    frame = attnbench.compare(shared, baseline="a/a").frame
    found = {(row.machine, row.seqlen_q): row.speedup for row in frame.itertuples()}
    expected = {("Imaginary x", 128): 0.5, ("Imaginary x", 256): 9 / 8}
    expected |= {("Imaginary y", 128): 3 / 4, ("Imaginary y", 256): 5 / 6}
    assert found == pytest.approx(expected)
    shown = attnbench.show(shared)
    assert set(shown.view.rows[0]) >= {"machine", "machine_key"}
    assert "On Imaginary y" in repr(shown)


def test_machines_are_compared_where_that_is_asked_for(shared: Path) -> None:
    compared = attnbench.compare(shared, across="machines")
    rows = [(row["machine"], row["implementation"], row["over_fastest"]) for row in compared.view.rows]
    assert rows == [
        ("Imaginary x", "a/a", None), ("Imaginary y", "a/a", pytest.approx(3)),
        ("Imaginary y", "a/a", None), ("Imaginary x", "b/b", pytest.approx(8 / 5)),
    ]  # fmt: skip
    assert "the fastest is Imaginary x with a/a in 1, Imaginary y with a/a in 1" in repr(compared)
    assert [len(one.pairs) for one in compared.comparisons] == [4]


def test_the_report_answers_which_machine_where_that_is_asked_for(shared: Path) -> None:
    run = read_run(shared)
    found = section(page_of(run, across_machines=True), "machines").words()
    assert "Imaginary y" in found
    page = page_of(run)
    assert "shared: Imaginary x" in page.words()
    assert "machines" not in {one.attributes["id"] for one in page.all("section")}


def test_two_runs_are_compared_kind_by_kind(shared: Path, tmp_path: Path) -> None:
    later = write(tmp_path / "y.jsonl", [timed(CASES[0], "a/a", 1.5e6)], machine_key="v1-y")
    (comparison,) = attnbench.compare(shared, later).comparisons
    assert [pair.speedup.value for pair in comparison.pairs] == [2.0]
    alone = write(tmp_path / "z.jsonl", [timed(CASES[0], "a/a", 1.5e6)], machine_key="v1-z")
    with pytest.raises(UsageError, match="no kind of machine in common"):
        attnbench.compare(shared, alone)
    with pytest.raises(UsageError, match="all records are of one"):
        attnbench.compare(later, across="machines")
