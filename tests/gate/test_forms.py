"""Every form of a result: JSON by its schema, Markdown, JUnit XML, annotations, exports."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest

from attnbench.gate.verdict import GateResult
from attnbench.views.document import markdown
from attnbench.views.gate.annotations import MOST, workflow_commands
from attnbench.views.gate.exports import bencher, github_action_benchmark
from attnbench.views.gate.files import write_results
from attnbench.views.gate.junit import junit
from attnbench.views.gate.table import gate_view
from tests.gate.conftest import CELLS, Imagined, of_one


@pytest.fixture
def regressed(imagined: Imagined) -> GateResult:
    return imagined(slower=0.10)


@pytest.fixture
def lost(imagined: Imagined) -> GateResult:
    return imagined(head={"status": "crashed", "reason": "SIGSEGV <&> \x1b[31mred"})


def test_everything_is_written_beside_the_runs(regressed: GateResult, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write_results(regressed, folder)
    assert {path.name for path in folder.iterdir()} == {
        "gate.json", "gate.md", "junit.xml", "annotations.txt", "github-action-benchmark.json", "bencher.json",
    }  # fmt: skip
    stored = json.loads((folder / "gate.json").read_text())
    jsonschema.validate(stored, GateResult.model_json_schema())
    assert GateResult.model_validate(stored) == regressed


def test_markdown_begins_with_the_outcome_and_shows_the_command(regressed: GateResult) -> None:
    text = markdown(gate_view(regressed))
    assert text.startswith("# The gate fails: a regression: head against base\n")
    one = of_one(regressed)
    assert f"| slower | time | {one.label} |" in text
    assert f"`{one.repro}`" in text
    assert text.index("slower | time") < text.index("same | time"), "what changed comes first"


def test_the_headline_counts_verdicts_by_metric(regressed: GateResult) -> None:
    text = markdown(gate_view(regressed))
    times = [one for one in regressed.verdicts if one.metric == "time"]
    headline = text.splitlines()[2]
    assert f"Time: 1 of {len(times)} slower, {len(times) - 1} of {len(times)} same." in headline
    assert text.index(headline) < text.index(regressed.sentence)


def test_beside_a_change_that_was_found_nothing_is_detectable(regressed: GateResult) -> None:
    (slower,) = [line for line in markdown(gate_view(regressed)).splitlines() if line.startswith("| slower | time")]
    assert slower.endswith("| — |")


def test_a_passing_gate_shows_no_command(imagined: Imagined) -> None:
    assert "To see it again" not in markdown(gate_view(imagined()))


def test_junit_has_a_case_for_each_verdict_and_failures_tell_why(regressed: GateResult) -> None:
    root = ET.fromstring(junit(regressed))  # noqa: S314
    cases = list(root.iter("testcase"))
    assert len(cases) == len(regressed.all_verdicts) == int(root.get("tests", ""))
    (failure,) = root.iter("failure")
    assert failure.get("message", "").startswith("slower: ")
    assert failure.text == of_one(regressed).repro
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("1", "0", "0")


def test_junit_has_a_case_for_each_problem_of_the_waivers(regressed: GateResult) -> None:
    root = ET.fromstring(junit(regressed.model_copy(update={"problems": ["one", "two"]})))  # noqa: S314
    assert len(list(root.iter("testcase"))) == int(root.get("tests", ""))
    assert [len(case.findall("failure")) for case in root.iter("testcase")][-2:] == [1, 1]
    assert root.get("failures") == "3"


def test_junit_is_xml_whatever_a_crash_has_printed(lost: GateResult) -> None:
    (failure,) = ET.fromstring(junit(lost)).iter("failure")  # noqa: S314
    assert r"SIGSEGV <&> \x1b[31mred" in failure.get("message", "")


def test_junit_skips_what_was_not_measured_and_what_cannot_be_told(imagined: Imagined) -> None:
    noisy = ET.fromstring(junit(imagined(noise=0.2)))  # noqa: S314
    assert int(noisy.get("skipped", "")) >= len(CELLS)
    both = {"status": "crashed", "reason": "SIGSEGV"}
    assert ET.fromstring(junit(imagined(base=both, head=both))).get("errors") == "1"  # noqa: S314


def test_annotations_escape_what_github_would_cut_off(regressed: GateResult) -> None:
    lines = workflow_commands(regressed).splitlines()
    assert lines[0].startswith("::error title=slower%3A a/plain%2C forward")
    assert "%25 slower" in lines[0]
    assert "%0Aattnbench gate -i" in lines[0]
    assert lines[-1].startswith("::notice title=attnbench gate::")


def test_more_annotations_than_github_shows_are_counted(imagined: Imagined) -> None:
    lines = workflow_commands(imagined(noise=0.2)).splitlines()
    warnings = [line for line in lines if line.startswith("::warning")]
    assert len(warnings) == MOST
    assert "more are in the step summary" in warnings[-1]


def test_exports_have_heads_figures_in_their_trackers_formats(regressed: GateResult) -> None:
    entries = github_action_benchmark(regressed)
    assert len(entries) == 2 * len(CELLS)
    one = of_one(regressed)
    assert {"name": f"{one.label}: time", "unit": "ns", "value": one.head}.items() <= entries[0].items()
    measures = bencher(regressed)[one.label]
    assert measures == {"latency": {"value": one.head}, "memory-peak-bytes": {"value": 3 * 2**20}}
