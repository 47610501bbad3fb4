"""Runs ``action.yml`` like a runner: each step's script in its own shell, with the variables that a runner sets."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from attnbench.cases.case import make_case
from tests.conftest import REPOSITORY

KERNEL = """
import numpy as np
from attnbench import attention

@attention("mine/plain", framework="numpy", dtypes=["float32"])
def plain(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * case.scale * (FACTOR if case.seqlen_q == 48 else 1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v
"""
SCENARIO = 'stages = ["agreement"]\n[axes]\nseqlen = [32, 48]\n'


@dataclasses.dataclass(frozen=True)
class Runner:
    """A minimal runner of workflows, with the features that the action needs."""

    folder: Path

    def __call__(self, **inputs: str) -> tuple[int, str]:
        """Run the action; return the exit code of the last step that ran, and all output."""
        action = yaml.safe_load((REPOSITORY / "action.yml").read_text())
        unknown = inputs.keys() - action["inputs"].keys()
        assert not unknown
        values = {name: one.get("default", "") for name, one in action["inputs"].items()} | inputs
        printed = ""
        for step in action["runs"]["steps"]:
            assert step["shell"] == "bash"
            script = self.folder / "step.sh"
            script.write_text(self._filled(step["run"], values))
            given = {name: self._filled(text, values) for name, text in step.get("env", {}).items()}
            ended = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", script], cwd=self.folder, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **self.written("env"), **given,
                "GITHUB_ENV": str(self.folder / "env"), "GITHUB_OUTPUT": str(self.folder / "output"),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary"), "RUNNER_TEMP": str(self.folder),
                "GITHUB_ACTION_PATH": str(REPOSITORY)}, check=False,
            )  # fmt: skip
            printed += ended.stdout
            if ended.returncode:
                return ended.returncode, printed
        return 0, printed

    @staticmethod
    def _filled(text: str, values: dict[str, str]) -> str:
        """Replace expressions by their values; a push has no pull request."""

        def value(expression: re.Match[str]) -> str:
            scope, _, name = expression[1].partition(".")
            return values[name] if scope == "inputs" else {"event.pull_request.base.sha": ""}[name]

        return re.sub(r"\$\{\{ (\S+) \}\}", value, text)

    def written(self, name: str) -> dict[str, str]:
        """Return the lines ``NAME=value`` that steps have written for the runner."""
        path = self.folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def summary(self) -> str:
        """Return the text of the job's page."""
        return (self.folder / "summary").read_text()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    (tmp_path / "base.py").write_text(KERNEL.replace("FACTOR", "1"))
    (tmp_path / "head.py").write_text(KERNEL.replace("FACTOR", "2"))
    (tmp_path / "two.toml").write_text(SCENARIO)
    return Runner(tmp_path)


HERE = {"python": sys.executable, "scenario": "two.toml", "base": "base.py", "arguments": "-i ^mine/ --rounds 3"}


def test_a_regression_fails_the_job_and_is_on_its_page(runner: Runner) -> None:
    code, printed = runner(**HERE, head="head.py")
    assert code == 1, printed
    assert runner.written("output") == {"exit-code": "1"}
    assert "The gate fails" in runner.summary()
    assert [line for line in printed.splitlines() if line.startswith("::error")], printed
    assert (runner.folder / "gate-results" / "junit.xml").is_file()


def test_a_waived_regression_passes(runner: Runner) -> None:
    case = make_case(heads_q=8, seqlen_q=48)
    (runner.folder / "waived.toml").write_text(
        f'[[waiver]]\ncase_id = "{case.case_id}"\nimplementation = "mine/plain"\nmetric = "outcome"\n'
        'verdict = "wrong"\nexpires = 2999-01-01\nissue = "https://example.org/1"\nreason = "known"\n'
    )
    code, printed = runner(**HERE, head="head.py", waivers="waived.toml")
    assert code == 0, printed
    assert runner.written("output") == {"exit-code": "0"}


def test_unchanged_code_passes_and_says_that_nothing_was_measured(runner: Runner) -> None:
    code, printed = runner(**HERE, head="base.py")
    assert code == 0, printed
    assert "nothing was measured" in runner.summary()


def test_an_input_is_a_value_and_no_script(runner: Runner) -> None:
    code, printed = runner(**HERE, head="$(touch hit)`touch hit`;touch hit")
    assert code == 2, printed
    assert runner.written("output") == {"exit-code": "2"}
    assert "exit code 2" in runner.summary()
    assert not (runner.folder / "hit").exists()
