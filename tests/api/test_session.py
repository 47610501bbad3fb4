"""The Python interface as a notebook uses it, in a real interpreter in its own folder."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PLUGINS, records_of

SESSION = Path(__file__).with_name("session.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the session, and return its folder."""
    folder = tmp_path_factory.mktemp("session")
    for path in (SESSION, PLUGINS / "kernel.py"):
        shutil.copy(path, folder)
    done = subprocess.run(
        [sys.executable, "session.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", ""), "nothing is printed that nobody asked for"
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """Return the session's findings."""
    result: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return result


def test_importing_attnbench_loads_nothing_heavy(found: dict[str, Any]) -> None:
    assert not {"torch", "numba", "pandas", "scipy", "pydantic", "rich", "cyclopts"} & set(found["imported"])


def test_a_run_holds_its_records_as_a_frame(found: dict[str, Any], folder: Path) -> None:
    assert found["path"] == "run.jsonl"
    assert found["ok"] == [True, 0, {"ok": 6}]
    assert sorted(found["columns"]) == sorted(found["loaded"])
    assert found["columns"].index("time_median_ns") < found["columns"].index("schema_version"), (
        "what people look for first"
    )
    assert found["medians"] == [record["time_median_ns"] for record in records_of(folder / "run.jsonl")]


def test_a_run_prints_as_the_table_of_the_terminal(found: dict[str, Any]) -> None:
    lines = found["text"].splitlines()
    assert lines[0].startswith("case, run ")
    assert any(line.split()[:3] == ["16", "mine/plain", "ok"] for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_run_shows_itself_as_a_table_and_a_chart(found: dict[str, Any]) -> None:
    page = found["html"]
    assert re.search(r"<td [^>]*>mine/plain</td><td [^>]*>ok</td>", page)
    (chart,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert b"naive/numpy" in base64.b64decode(chart)
    assert "<pre>" not in page, "the chart stands in place of the one made of characters"


def test_the_header_keeps_the_command_that_asks_for_the_same(found: dict[str, Any], folder: Path) -> None:
    plugin = f"{folder / 'kernel.py'}:mine/plain"
    assert found["command"] == [
        "attnbench", "run", "-i", "^naive/numpy$", "-i", "^mine/plain$", "-a", "seqlen=16,24,32", "-a", "heads=2",
        "-a", "head_dim=8", "-p", plugin, "--threads", "1", "--peaks", "none", "--out", "run.jsonl",
    ]  # fmt: skip


def test_a_silent_run_keeps_what_the_command_would_have_said(found: dict[str, Any]) -> None:
    assert "6 ok" in found["messages"]


def test_a_kernel_that_disagrees_is_an_answer_and_no_exception(found: dict[str, Any]) -> None:
    ok, exit_code, messages, statuses = found["checked"]
    assert (ok, exit_code, statuses) == (False, 1, ["wrong"])
    assert any(message.startswith("wrong: mine/wrong") for message in messages)


def test_a_plan_lists_cells_and_runs_nothing(found: dict[str, Any]) -> None:
    text, names = found["planned"]
    assert names == ["naive/numpy"] * 3
    assert "3 cells to run," in text


def test_comparing_and_showing(found: dict[str, Any]) -> None:
    ok, text, names = found["compared"]
    assert (ok, names) == (True, ["mine/plain"] * 3)
    assert "speed-up over naive/numpy" in text
    assert found["shown"] == [{"ok": 6}, True]


def test_a_report_and_an_inspection_tell_where_their_pages_are(found: dict[str, Any]) -> None:
    assert found["report"][:3] == ["report/index.html", True, 6]
    assert found["report"][3].startswith("Report: report/index.html\n")
    assert found["inspection"] == ["in/index.html", False, ["wrong"], 3]


def test_mistakes_are_exceptions_with_one_sentence(found: dict[str, Any]) -> None:
    said = found["refused"]
    assert "did you mean 'quick'?" in said["scenario"]
    assert "run.jsonl exists already" in said["again"]
    assert said["missing"] == "missing.jsonl cannot be read: No such file or directory"
    assert said["device"] == "unknown device 'tpu': there are cpu and cuda"
    assert "of two runs the first is the baseline" in said["both"]
