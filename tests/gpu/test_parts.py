"""The parts for a GPU, as far as they go without one."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import attnbench
from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from tests.conftest import REPOSITORY
from tests.gpu.agreement import checks_of, run_all, told_of_checks
from tests.gpu.table import lines_of
from tests.gpu.wheels import needs_of_wheels, unmet

FEW = 3


def requested(folder: Path, name: str) -> Path:
    """A request for a few cases of an implementation on the CPU."""
    asked = CellSelection.of(include=f"^{name}$", axis={"seqlen": [8, 16, 24], "heads": 1, "head_dim": 8}, device="cpu")
    request = asked.request(Log(progress=False), only_agreement=True).to_dict()
    path = folder / f"{name.replace('/', '-')}-1.json"
    path.write_text(json.dumps(request | {"cells": [f"{case} {name} cpu" for case in cases()]}))
    return path


def cases() -> list[str]:
    planned = attnbench.plan(include="^naive/numpy$", axis={"seqlen": [8, 16, 24], "heads": 1, "head_dim": 8})
    return [row["case_id"] for row in planned.view.rows]


def test_checks_run_beside_each_other_are_told_of_and_go_on(tmp_path: Path) -> None:
    for name in ("naive/numpy", "naive/torch"):
        requested(tmp_path, name)
    requested(tmp_path, "gone/away")
    (tmp_path / "broken.json").write_text("{")
    checks, (problem,) = checks_of(tmp_path, tmp_path, "")
    assert problem.startswith(f"{tmp_path}/broken.json is left out")
    assert [check.path.name for check in checks] == ["check-naive-numpy-1.jsonl", "check-naive-torch-1.jsonl"]
    run_all(checks, time.monotonic() + 600)
    lines = told_of_checks(checks)
    assert [line.split(";")[0].split(None, 1) for line in lines[2:]] == [
        ["naive/numpy", f"{FEW} ok"],
        ["naive/torch", f"{FEW} ok"],
    ]
    assert "--resume" in checks[0].command()


def test_what_is_not_done_in_time_is_ended_and_told(tmp_path: Path) -> None:
    requested(tmp_path, "naive/numpy")
    checks, _ = checks_of(tmp_path, tmp_path, "")
    run_all(checks, time.monotonic() + 0.5)
    assert told_of_checks(checks)[-1] == "  without a record: check-naive-numpy-1"


def test_the_table_has_each_cell_and_its_ratio_to_cudnn() -> None:
    card, *lines = lines_of(REPOSITORY / "results/reference/h100.jsonl")
    assert card.startswith("NVIDIA H100")
    (line,) = (line for line in lines if line.startswith("forward-causal-8k") and "triton/flash" in line)
    assert "1096.6 us" in line
    assert "0.814 of cuDNN" in line


def test_a_need_that_nobody_meets_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "some_wheel-1.0.dist-info/METADATA",
            "Name: some-wheel\nRequires-Dist: there>=2\nRequires-Dist: absent\n"
            "Requires-Dist: mac; sys_platform=='darwin'\n",
        )
    ours = [Requirement("some-wheel>=1"), Requirement("noted")]
    assert sorted(unmet(tmp_path, {"there": Version("1.5"), "noted": None}, ours)) == [
        "missing: absent",
        "there is 1.5, and there>=2 is needed",
    ]
    assert {one.name for one in needs_of_wheels(tmp_path)} == {"there", "absent"}
