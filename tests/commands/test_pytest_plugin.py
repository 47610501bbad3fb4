"""``pytest --attnbench`` and the fixture ``attnbench_check``, in a separate pytest process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import torch

def mine(q, k, v, case):
    scores = q @ k.transpose(-1, -2) * case.scale
    if case.mask == "causal":
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return scores.softmax(-1) @ v

def unscaled(q, k, v, case):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v

FEW = {"scenario": "quick", "axes": ["seqlen=48"], "operators": ["attention"]}

def test_right(attnbench_check):
    attnbench_check(mine, masks=["none", "causal"], **FEW)

def test_wrong(attnbench_check):
    attnbench_check(unscaled, **FEW)

def test_nothing(attnbench_check):
    attnbench_check(mine, dtypes=["float64"], **FEW)
"""


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    # A pytest-xdist worker times nothing; this pytest must not be one, even if these tests run in a worker.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_kernel_is_checked_in_a_users_own_test(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    code, said = run_pytest(tmp_path, "-q", "--tb=short")
    assert code == 1
    assert "2 failed, 1 passed" in said
    assert "wrong: checked/unscaled, forward b1 h8 s48 d64 float32: out: error" in said
    assert "a guess at the cause: it is what the case gives if scores are not scaled" in said
    assert "checked/mine claims none of the cases of quick, so nothing was checked" in said


def test_cells_are_benchmarks_grouped_by_case_with_agreement_and_memory_beside_them(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): raise SystemExit('not asked for')\n")
    code, said = run_pytest(
        tmp_path, "--attnbench", "quick", "--attnbench-implementation", "^naive/numpy$",
        "--attnbench-axis", "seqlen=48",
        "--attnbench-axis", "mode=forward", "--attnbench-axis", "operator=attention", "--benchmark-json", "b.json",
    )  # fmt: skip
    assert code == 0, said
    found = json.loads((tmp_path / "b.json").read_text())["benchmarks"]
    assert {one["group"] for one in found} >= {"forward b1 h8 s48 d64 float32", "forward b1 h8 s48 d64 float32 causal"}
    for one in found:
        assert one["extra_info"]["implementation"] == "naive/numpy"
        assert 0 < one["extra_info"]["error_ratio"] <= 1
        assert one["extra_info"]["memory_peak_bytes"] > 0
        assert one["stats"]["rounds"] == 20


def test_a_scenario_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    code, said = run_pytest(tmp_path, "--attnbench", "quik")
    assert code == 4
    assert "did you mean 'quick'?" in said
    assert "Traceback" not in said


def test_it_imports_nothing_heavy_before_it_is_used() -> None:
    program = (
        "import sys, attnbench.pytest_plugin; "
        "sys.exit(' '.join({'torch', 'numba', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
