"""No false alarm on any processor, and equal budgets on all: this processor runs the code of others."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.soak.processors import PROCESSORS

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"} or "avx2" not in Path("/proc/cpuinfo").read_text(),
    reason="is made to be other x86 processors, up to AVX2",
)

SCENARIO = """
description = "Scores from small to far beyond the range of exp."
stages = ["agreement"]
[defaults]
mode = "backward"
heads = 2
head_dim = 48
head_dim_v = 40
[axes]
inputs = ["large_logits", "negative_logits", "normal"]
[[zip]]
seqlen_q = [70, 1]
seqlen_kv = [131, 35]
"""
SOAKS = {
    "interpreted": ["--processor", "avx2", "-i", "^triton/flash$", "--values", "2"],
    "avx2": ["--processor", "avx2", "-i", "torch/sdpa|^naive/torch$|naive/numpy|chunked", "--threads", "2"],
    "zen": ["--processor", "zen", "-i", "torch/sdpa|^naive/torch$|naive/numpy|chunked", "--threads", "1"],
    "sse": ["--processor", "sse", "-i", "torch/sdpa|^naive/torch$|naive/numpy|chunked", "--threads", "2"],
}
"""Options by soak. Numba's kernels are left out, as they would be compiled for each processor."""

BUDGETS = """
import json, sys
import torch
from attnbench import make_case
from attnbench.oracle.budget import budget
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select
found = []
for dtype in ("float32", "bfloat16", "float64"):
    for inputs in ("normal", "large_logits"):
        case = make_case(mode="backward", heads_q=2, seqlen_q=70, seqlen_kv=131, dtype=dtype, inputs=inputs)
        truth = find_truth(case, select(case), 0)
        found += [budget(case, name, truth.low_precision[name], truth.terms[name]) for name in sorted(truth.answers)]
json.dump([torch.backends.cpu.get_cpu_capability(), found], sys.stdout)
"""


def python(arguments: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments and environment variables, which select the processor's code."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run a soak for every processor, two at a time."""
    folder = tmp_path_factory.mktemp("processors")
    scenario = folder / "scores.toml"
    scenario.write_text(SCENARIO)

    def soak(name: str) -> subprocess.CompletedProcess[str]:
        common = ["--scenario", str(scenario), "--seeds", "1", "--values", "4", "--cell-seconds", "60"]
        return python(["-m", "tests.soak", *common, *SOAKS[name], "--out", str(folder / f"{name}.jsonl")], {})

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SOAKS, pool.map(soak, SOAKS), strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SOAKS)
def test_healthy_implementations_agree(name: str, soaked: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert soaked[name].returncode == 0, soaked[name].stdout + soaked[name].stderr
    assert "0 disagreed" in soaked[name].stdout


@pytest.mark.timeout(600)
def test_every_processor_has_the_same_budgets() -> None:
    """Except that a few numbers, almost halfway between two others, may be rounded the other way."""
    (_, own), (capability, old) = (
        json.loads(python(["-c", BUDGETS], {"OMP_NUM_THREADS": threads, **PROCESSORS[name]}).stdout)
        for name, threads in (("own", "2"), ("sse", "1"))
    )
    assert capability == "DEFAULT"
    assert len(own) == 2 * 3 * 5
    for one, other in zip(own, old, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
