"""``attnbench profile`` from the command line to the page, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import attnbench
from tests.conftest import PLUGINS
from tests.profiling.test_perf_events import UNDER_A_FILTER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Command

SMALL = ("-a", "seqlen=256", "-a", "heads=2", "--threads", "1", "--seconds", "0.5")
FILES = {"index.html", "report.md", "profile.json", "run.jsonl", "flame-1.svg", "flame-1.folded", "trace-1.json"}


@pytest.fixture(scope="module")
def profiled(module_attnbench: Command) -> Path:
    """Take a profile of two implementations."""
    done = module_attnbench(
        "profile", *SMALL, "-i", "^naive/numpy$", "-i", "^torch/sdpa-flash$", "--assembly", "--out", "two"
    )
    if done.code == 6:
        pytest.skip(done.out)
    if done.code == 4 and " invalid" in done.err:
        pytest.skip(f"the machine is too busy: {done.err}")
    assert done.code == 0, done.err
    assert "naive/numpy" in done.out
    assert "slower than" in done.out
    assert "attnbench: the page is two/index.html" in done.err
    return module_attnbench.folder / "two"


def test_a_profile_is_a_folder_with_everything_in_it(profiled: Path) -> None:
    assert {path.name for path in profiled.iterdir()} >= FILES
    assert not list(profiled.parent.glob(".two-*"))


def test_phases_add_up_to_the_median_of_the_run_beside_it(profiled: Path) -> None:
    stored = json.loads((profiled / "profile.json").read_text())
    medians = dict(attnbench.load(profiled / "run.jsonl")[["implementation", "time_median_ns"]].to_numpy().tolist())
    assert {cell["implementation"] for cell in stored["cells"]} == set(medians)
    for cell in stored["cells"]:
        assert cell["median_ns"] == medians[cell["implementation"]]
        assert sum(phase["ns"] for phase in cell["phases"]) == pytest.approx(cell["median_ns"], rel=0.01)


def test_both_products_and_the_softmax_are_told_apart(profiled: Path) -> None:
    for cell in json.loads((profiled / "profile.json").read_text())["cells"]:
        seen = {phase["phase"]: phase["ns"] for phase in cell["phases"]}
        assert seen.keys() >= {"qk", "pv", "softmax"}, cell["implementation"]
        computed = cell["median_ns"] - seen.get("waiting", 0)
        assert seen.get("other", 0) + seen.get("products", 0) < 0.1 * computed, cell["implementation"]


@pytest.mark.parametrize("command", [("show",), ("report",), ("compare",), ("run", "--resume")])
def test_profiled_times_enter_no_other_command(
    module_attnbench: Command, profiled: Path, command: tuple[str, ...]
) -> None:
    done = module_attnbench(*command, profiled / "profile.json")
    assert done.code == 2
    assert "profile.json" in done.err
    with pytest.raises(attnbench.UsageError):
        attnbench.load(profiled / "profile.json")


def test_the_cells_of_a_run_file_can_be_profiled(module_attnbench: Command, profiled: Path) -> None:
    done = module_attnbench(
        "profile", profiled / "run.jsonl", "-i", "naive/numpy", "--seconds", "0.3", "--out", "one", "-f", "json"
    )
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert {row["implementation"] for row in (rows["rows"] if isinstance(rows, dict) else rows)} == {"naive/numpy"}


TWICE = """
import numpy as np
from attnbench import attention

@attention("mine/plain", framework="numpy", dtypes=["float32"])
def plain(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * case.scale  # phase: qk
    weights = np.exp(scores - scores.max(-1, keepdims=True))  # phase: exp
    weights = np.exp(np.log(weights))  # phase: softmax
    return weights / weights.sum(-1, keepdims=True) @ v  # phase: pv
"""


def test_two_sides_differ_where_their_sources_do(attnbench: Command) -> None:
    (attnbench.folder / "new.py").write_text(TWICE)
    (attnbench.folder / "old.py").write_text(
        TWICE.replace("    weights = np.exp(np.log(weights))  # phase: softmax\n", "")
    )
    done = attnbench(
        "profile", *SMALL, "-i", "mine/plain", "--base", "old.py", "--head", "new.py", "--out", "sides", "-f", "json"
    )  # fmt: skip
    if done.code == 6:
        pytest.skip(done.out)
    assert done.code == 0, done.err
    (difference,) = json.loads(done.out)["differences"]
    assert (difference["slower"], difference["faster"]) == ("mine/plain, head", "mine/plain, base")
    assert difference["phases"]["softmax"] > 0
    assert sum(difference["phases"].values()) + difference["rest_ns"] == pytest.approx(difference["ns"])
    assert {path.name for path in (attnbench.folder / "sides").iterdir()} >= {"run-base.jsonl", "run-head.jsonl"}


def test_two_sides_of_the_same_code_are_refused(attnbench: Command) -> None:
    (attnbench.folder / "old.py").write_text(TWICE)
    done = attnbench("profile", *SMALL, "-i", "mine", "--base", "old.py", "--head", "old.py", "--out", "sides")
    assert (done.code, "the same code" in done.err) == (2, True)
    assert not (attnbench.folder / "sides").exists()


def test_nothing_is_replaced_without_force(module_attnbench: Command, profiled: Path) -> None:
    before = (profiled / "profile.json").stat().st_mtime_ns
    done = module_attnbench("profile", *SMALL, "-i", "naive/numpy$", "--out", "two")
    assert (done.code, done.err.count("exists already")) == (2, 1)
    assert (profiled / "profile.json").stat().st_mtime_ns == before
    other = profiled.parent / "other"
    other.mkdir()
    done = module_attnbench("profile", *SMALL, "-i", "naive/numpy$", "--out", "other", "--force")
    assert (done.code, done.err.count("it is no profile")) == (2, 1)


def test_a_wrong_kernel_has_no_profile(attnbench: Command) -> None:
    done = attnbench("profile", *SMALL, "-p", PLUGINS / "faults.py", "-i", "^faults/mean-of-values$", "--out", "wrong")
    assert done.code == 1, done.err
    (cell,) = json.loads((attnbench.folder / "wrong" / "profile.json").read_text())["cells"]
    assert (cell["status"], cell["phases"], cell["median_ns"]) == ("wrong", [], None)
    assert "error" in cell["reason"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seconds", "0"), "0.1 to 600 seconds"),
        (("--samples", "0"), "1 to 1,000,000 samples"),
        (("edge-shapes",), "cells are too many to profile"),
        (("nowhere.jsonl",), "nowhere.jsonl"),
        (("-i", "nobody"), "no implementation matches"),
        (("-a", "seqlen=banana"), "seqlen"),
        (("--head", "new.py"), "--head is compared with what?"),
        (("--base", "no-such-thing"), "no-such-thing"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    attnbench: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = attnbench("profile", *arguments, "--out", "made")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list(attnbench.folder.iterdir())


def test_a_machine_that_refuses_is_told_with_its_reason_and_the_run_is_kept(tmp_path: Path) -> None:
    arguments = ["profile", *SMALL, "-i", "^naive/numpy$", "--out", "refused"]
    program = f"{UNDER_A_FILTER}\nfrom attnbench.cli.main import main\nmain({arguments!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 6, done.stderr
    assert "the system refuses perf_event_open" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(attnbench.load(tmp_path / "refused" / "run.jsonl")) == 1
