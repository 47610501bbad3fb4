"""The parts for a GPU, as far as they can be tested without one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import attnbench
from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.transport.host import LocalHost
from tests.conftest import REPOSITORY
from tests.gpu import profile, tiles
from tests.gpu.agreement import checks_of, run_all, told_of_checks
from tests.gpu.table import lines_of
from tests.gpu.wheels import needs_of_wheels, unmet

FEW = 3


def requested(folder: Path, name: str) -> Path:
    """Write a request for a few cases of an implementation on the CPU."""
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


@dataclasses.dataclass
class Timings:
    """A stand-in for a GPU: calls are names, and each takes a microsecond or fails."""

    fails: str = ""
    breaks: bool = False
    timed: list[object] = dataclasses.field(default_factory=list)

    def call_of(self, kernel: str, _case: object, _operands: object, sizes: object, **more: object) -> object:
        return f"{kernel} {sizes} {more or ''}"

    def median_ms(self, call: object) -> float:
        self.timed.append(call)
        if self.fails and self.fails in str(call):
            raise RuntimeError("out of shared memory")
        return 0.001


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> Timings:
    """Make :mod:`tests.gpu.tiles` time the stand-in instead of calls on a GPU."""
    found = Timings()
    monkeypatch.setattr(tiles, "call_of", found.call_of)
    monkeypatch.setattr(tiles, "cudnn", lambda case, operands: "cuDNN")
    monkeypatch.setattr(tiles, "operands_of", lambda case: None)
    monkeypatch.setattr(tiles, "median_ms", found.median_ms)
    monkeypatch.setattr(tiles, "is_broken", lambda: found.breaks)
    return found


def test_one_tile_size_that_fails_costs_no_other_and_none_is_timed_twice(tmp_path: Path, timings: Timings) -> None:
    timings.fails = "forward (128, 128, 8, 2)"
    lines = tiles.tiles(tmp_path, 600)
    assert [line for line in lines if "out of shared memory" in line] == [
        "  128x128 warps=8 stages=2    RuntimeError: out of shared memory"
    ]
    forward = [step for step in tiles.STEPS if "backward" not in step.name]
    assert lines.count("  cuDNN                             1.0 us") == len(forward)
    count = len(timings.timed)
    assert tiles.tiles(tmp_path, 0) == lines
    assert len(timings.timed) == count


def test_what_the_time_or_a_broken_context_cut_off_is_timed_the_next_time(tmp_path: Path, timings: Timings) -> None:
    timings.fails, timings.breaks = "partial (16, 128, 8, 3)", True
    assert tiles.tiles(tmp_path, 600)[-1] == "CUDA's context is broken: start this part again"
    assert tiles.tiles(tmp_path, 0)[-1] == "the time was over here"
    whole = tiles.tiles(tmp_path, 600)
    assert len(whole) == len(tiles.STEPS) + len(timings.timed)


def test_the_two_cells_farthest_behind_are_profiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ncu, asked = tmp_path / "ncu", tmp_path / "asked"
    ncu.write_text(f'#!/bin/sh\necho "$@" >> {asked}\necho "  Duration  us  5.00"\n')
    ncu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert profile.profile(tmp_path, 60) == ["no cell of gpu-2 was timed beside cuDNN: run that first"]
    (tmp_path / "hopper.jsonl").write_bytes((REPOSITORY / "results/reference/h100.jsonl").read_bytes())
    lines = profile.profile(tmp_path, 60)
    assert profile.profile(tmp_path, 60) == lines
    assert lines[1::2] == ["  Duration  us  5.00"] * 2
    commands = asked.read_text().splitlines()
    assert len(commands) == len(lines[::2])
    words = commands[0].partition(" -m attnbench ")[2].split()
    command = [sys.executable, "-m", "attnbench", *words, "--dry-run"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "1 cell" in told.stderr


@pytest.mark.skipif(LocalHost().device_unavailable("cuda") is None, reason="there is a GPU")
def test_without_a_gpu_a_part_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu", "table", "--folder", str(tmp_path)]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "no CUDA device" in told.stderr
    assert not list(tmp_path.iterdir())


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
