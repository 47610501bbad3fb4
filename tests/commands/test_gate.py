"""``attnbench gate`` as a user types it: real sides, real runs, and one sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import PLUGINS, REPOSITORY, Command, Finished, records_of

SOUND = """
import numpy as np
from attnbench import attention

@attention("mine/plain", framework="numpy", dtypes=["float32", "float64"])
def plain(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * case.scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v
"""
UNSOUND = SOUND.replace('["float32", "float64"]', '["float32"]').replace(
    "case.scale\n", "(case.scale if case.seqlen_q != 48 else 2 * case.scale)\n"
)
SCENARIO = """
description = "Three cells, checked and not timed."
stages = ["agreement"]
[axes]
seqlen = [32, 48]
dtype = ["float32", "float64"]
[[exclude]]
seqlen_q = 48
dtype = "float64"
"""


@pytest.fixture(scope="module")
def folder(module_attnbench: Command) -> Path:
    """Return the folder of this module's gates."""
    here = module_attnbench.folder
    (here / "base.py").write_text(SOUND)
    (here / "head.py").write_text(UNSOUND)
    (here / "three.toml").write_text(SCENARIO)
    return here


GATE = ("gate", "three.toml", "-i", "^mine/", "--rounds", "3")


@pytest.fixture(scope="module")
def finished(module_attnbench: Command, folder: Path) -> Finished:
    """Run a gate on a plug-in that became wrong in one case and lost a dtype."""
    assert folder.is_dir()
    return module_attnbench(*GATE, "--base", "base.py", "--head", "head.py", "--out", "out", "--json")


def test_a_kernel_that_became_wrong_and_lost_a_dtype_fails_the_gate(finished: Finished, folder: Path) -> None:
    assert finished.code == 1, finished.err
    result = json.loads(finished.out)
    found = {(one["label"].rpartition("d64 ")[2], one["label"].split()[4]): one for one in result["verdicts"]}
    assert found["float32", "s48"]["verdict"] == "wrong"
    assert "it was right on base" in found["float32", "s48"]["sentence"]
    assert found["float64", "s32"]["verdict"] == "lost"
    assert "'float64' is not declared" in found["float64", "s32"]["sentence"]
    assert found["float32", "s32"]["verdict"] == "same"
    assert found["float32", "s32"]["sentence"].startswith("it agrees with the oracle on both sides; not timed: ")
    assert "--plugin" in found["float32", "s48"]["repro"]


def test_both_sides_run_in_turns_and_every_run_is_kept(finished: Finished, folder: Path) -> None:
    assert finished.code == 1
    stored = json.loads((folder / "out" / "gate.json").read_text())
    first = [one["first"] for one in stored["rounds"]]
    assert len(first) == 3
    assert set(first[:2]) == {"base", "head"}, "each pair of rounds begins once with either side"
    for one in stored["rounds"]:
        for side in ("base", "head"):
            assert len(records_of(folder / "out" / one[side])) == 3


def test_gate_json_follows_its_own_schema(finished: Finished, folder: Path, module_attnbench: Command) -> None:
    assert finished.code == 1
    schema = json.loads(module_attnbench("schema", "gate").out)
    stored = json.loads((folder / "out" / "gate.json").read_text())
    jsonschema.validate(stored, schema)
    assert json.loads(finished.out) == stored


def test_the_same_gate_into_the_same_folder_goes_on_from_its_complete_runs(
    finished: Finished, folder: Path, module_attnbench: Command
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.jsonl")}
    again = module_attnbench(*GATE, "--base", "base.py", "--head", "head.py", "--out", "out")
    assert again.code == finished.code
    assert "complete runs are kept" in again.err
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.jsonl")} == before
    assert "The gate fails: a regression" in again.out


def test_a_folder_of_another_gate_is_left_alone(folder: Path, finished: Finished, module_attnbench: Command) -> None:
    assert finished.code == 1
    other = module_attnbench(*GATE, "--base", "base.py", "--head", "base.py", "--measure-identical", "--out", "out")
    assert other.code == 2
    assert "holds something else already" in other.err


def test_sides_of_the_same_code_need_no_measuring(folder: Path, module_attnbench: Command) -> None:
    same = module_attnbench(*GATE, "--base", "base.py", "--head", "base.py")
    assert same.code == 0
    assert "nothing was measured" in same.out
    assert not (folder / "results").exists()
    kept = module_attnbench(*GATE, "--base", "base.py", "--head", "base.py", "--out", "same")
    assert kept.code == 0, kept.err
    assert "nothing was measured" in (folder / "same" / "gate.md").read_text()


def test_equal_kernels_whose_neighbours_differ_are_measured(folder: Path, module_attnbench: Command) -> None:
    for side, factor in (("old", 1.0), ("new", 0.9)):
        (folder / side).mkdir()
        (folder / side / "factor.json").write_text(str(factor))
        kernel = SOUND.replace("import numpy as np", "import json, pathlib\nimport numpy as np")
        kernel = kernel.replace("case.scale\n", "case.scale * read()\n")
        kernel += "\ndef read():\n    return json.loads((pathlib.Path(__file__).parent / 'factor.json').read_text())\n"
        (folder / side / "kernel.py").write_text(kernel)
    done = module_attnbench(
        *GATE, "--base", "old/kernel.py", "--head", "new/kernel.py", "--out", "neighbours", "--json"
    )
    assert done.code == 1, done.err
    verdicts = json.loads(done.out)["verdicts"]
    assert {one["verdict"] for one in verdicts} == {"wrong"}


def test_revisions_of_a_repository_of_attnbench_differ_in_their_implementations(
    tmp_path: Path, attnbench: Command
) -> None:
    """A side is the folder of implementations; the harness is always the one that runs the gate."""
    project = tmp_path / "fork"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, project], check=True)
    fork = Command(project)
    for changed in ("implementations/naive_numpy.py", "harness/attnbench/cli/main.py"):
        (project / changed).write_text((project / changed).read_text() + "\n# a remark\n")
    cache = "../cache"  # relative: runs are started in folders of their own
    (tmp_path / "three.toml").write_text(SCENARIO)
    sides = ("--base", "HEAD", "--head", ".", "--cache-dir", cache)
    done = fork("gate", "../three.toml", *sides, "-i", "^naive/numpy$", "--rounds", "3", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["base"]["kind"] == "revision"
    assert result["head"]["kind"] == "directory"
    assert (result["base"]["dependencies"], result["head"]["dependencies"]) == ("shared", "shared")
    hashes = [result[side]["sources"]["naive/numpy"] for side in ("base", "head")]
    assert hashes[0] != hashes[1]
    subprocess.run(["git", "checkout", "--quiet", "implementations"], cwd=project, check=True)
    unchanged = fork("gate", *sides)
    assert unchanged.code == 0
    assert "nothing was measured" in unchanged.out, "the harness is no part of a side"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gate"], "which base?"),
        (["gate", "--base", "a.py", "--baseline", "b.jsonl"], "which base?"),
        (["gate", "--base", "no-such-revision"], "no-such-revision is not a directory, and this is no git repository"),
        (["gate", "--base", "missing.py", "--head", "x.py"], "missing.py cannot be read: No such file or directory"),
        (["gate", "--base", "broken.whl"], "broken.whl is no wheel: it is not a zip archive"),
        (["gate", "--base", ".", "--head", "."], ". has no pyproject.toml"),
        (
            ["gate", "--base", "mine.py", "--head", "mine.py", "--delta", "three"],
            "'three' is no share: write 3% or 0.03",
        ),
        (["gate", "--base", "mine.py", "--delta", "speed=3%"], "'speed' is no metric that has one"),
        (["gate", "--base", "mine.py", "--delta", "3%", "--delta", "time=4%"], "of time is given twice"),
        (["gate", "--base", "mine.py", "--delta", "memory=120%"], "'120%' is no share between 0 and 100 %"),
        (["gate", "--base", "mine.py", "--delta", "exponent=10%"], "'10%' is no difference of exponents"),
        (["gate", "--base", "mine.py", "--head", "mine.py", "--rounds", "2"], "2 rounds are too few: at least 3"),
        (["gate", "--base", "mine.py", "--waivers", "bad.toml"], "bad.toml: waiver 1, expires: "),
        (["gate", "--base", "mine.py", "--head", "mine.py", "--calibration", "no.json"], "no.json cannot be read"),
        (["gate", "smoke", "--base", "mine.py", "--head", "mine.py"], "no scenario has this name"),
        (["gate", "--baseline", "weekly"], "there is no baseline 'weekly' in results/baselines"),
        (["gate", "--baseline", "none.jsonl"], "none.jsonl cannot be read"),
        (["gate", "quick", "--baseline", "b.jsonl"], "no scenario and no selection beside --baseline"),
        (["baseline", "save", "none.jsonl"], "none.jsonl cannot be read"),
        (["calibrate", "--rounds", "1", "-i", "^naive/numpy$"], "1 rounds are too few"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    attnbench: Command, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(attnbench.folder / "cache"))
    (attnbench.folder / "mine.py").write_text((PLUGINS / "mine.py").read_text())
    (attnbench.folder / "broken.whl").write_text("no archive")
    (attnbench.folder / "bad.toml").write_text(
        '[[waiver]]\ncase_id = "a"\nimplementation = "b/c"\nmetric = "time"\nceiling = "5%"\n'
        'expires = "soon"\nissue = "1"\nreason = "x"\n'
    )
    done = attnbench(*arguments)
    assert done.code == 2, done.err
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (attnbench.folder / "results").exists()


def test_another_machines_baseline_is_not_comparable(attnbench: Command) -> None:
    golden = (REPOSITORY / "tests" / "store" / "golden" / "v2.jsonl").read_text()
    (attnbench.folder / "theirs.jsonl").write_text(golden)
    done = attnbench("gate", "--baseline", "theirs.jsonl")
    assert done.code == 6, done.err
    assert "is not comparable: it was measured on another machine" in done.err
