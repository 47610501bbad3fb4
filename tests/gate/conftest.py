"""Imagined gates: rounds are run files with times that tests choose."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench.cases.case import Case, make_case
from attnbench.gate.gate import GatePlan, judge
from attnbench.gate.judge import scaling
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.measure.rounds import Round
from attnbench.gate.measure.side import Side
from attnbench.gate.verdict import GateResult, Verdict
from attnbench.runner.planning.request import Request
from attnbench.scaling import Refusal, Scaling, fit_scaling
from attnbench.store.reader import RunFile, read_run
from attnbench.sweep.model import Scenario
from tests.views.conftest import failed, timed, write

CELLS = [(make_case(seqlen_q=64 * n, seqlen_kv=64 * n), f"{family}/plain") for n in range(1, 6) for family in "abcdef"]
"""Thirty cells, as in gate-smoke."""
ONE = (CELLS[0][0].case_id, "a/plain")
"""Key of the cell that tests change."""
MIB = 2**20

Change = Callable[[Case, str, int], dict[str, Any] | None]
"""Returns fields that replace those of the changed cell's record on head; ``None`` drops the record."""


def side(name: str) -> Side:
    return Side(
        label=name, kind="plugin", commit=None, python="python", folder=".", plugins=(), identity=name,
        dependencies="shared",
    )  # fmt: skip


def plan(rules: Rules, floors: Mapping[str, float]) -> GatePlan:
    request = Request(
        scenario=Scenario(name="imagined"), overrides={}, include=(), exclude=(), plugins=(), devices=("cpu",),
        threads=1, replicates=1, seed=0, cache="warm", stages=("agreement", "time", "memory"),
    )  # fmt: skip
    return GatePlan(
        sides={"base": side("base"), "head": side("head")}, request=request, rules=rules, seed=0, floors=floors
    )  # fmt: skip


_fit = functools.cache(fit_scaling)


def fit_once(lengths: Sequence[int], values: Sequence[Sequence[float]]) -> Scaling | Refusal:
    """Fit the law of a series, cached: most cells of most imagined gates have the same times."""
    return _fit(tuple(lengths), tuple(tuple(of_length) for of_length in values))


@dataclasses.dataclass
class Imagined:
    """Makes gates of thirty cells with 0.7 % of noise; ``a/plain`` at length 64 is the cell that changes."""

    folder: Path

    def __call__(
        self,
        *,
        head: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
        slower: float = 0.0,
        everything_slower: float = 0.0,
        noise: float = 0.007,
        median_ns: float = 1e6,
        floors: Mapping[str, float] | None = None,
        rules: Rules | None = None,
        keep: Callable[[str, tuple[str, str]], bool] = lambda side, key: True,
    ) -> GateResult:
        """Judge a gate.

        ``base`` and ``head`` are fields of the changed cell's records; a status other than ok makes it a failure.
        ``keep`` decides which records a side has.
        """
        rng = np.random.default_rng(4)

        def run(stage: str, number: int, name: str) -> RunFile:
            fields, factors = (base, (1.0, 1.0)) if name == "base" else (head, (1 + everything_slower, 1 + slower))
            return read_run(self._run(stage, number, name, fields or {}, rng, noise, factors, median_ns, keep))

        rounds = {
            stage: [
                Round(stage=stage, number=n, first="base", base=run(stage, n, "base"), head=run(stage, n, "head"))
                for n in range(count)
            ]
            for stage, count in (("screen", 4), ("confirm", 8))
        }
        made = plan(rules or Rules(), floors or {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scaling, "fit_scaling", fit_once)
            return judge(made, self.folder, rounds["screen"], rounds["confirm"], ["attnbench", "gate"])

    def _run(
        self, stage: str, number: int, name: str, fields: Mapping[str, Any], rng: np.random.Generator, noise: float,
        factors: tuple[float, float], median_ns: float, keep: Callable[[str, tuple[str, str]], bool],
    ) -> Path:  # fmt: skip
        lines = []
        for case, implementation in CELLS:
            key = (case.case_id, implementation)
            if not keep(name, key):
                continue
            given: dict[str, Any] = {
                "memory_peak_bytes": 3 * MIB,
                "memory_resolution_bytes": 128 * 1024,
                "seqlen_q": case.seqlen_q,
            }
            time_ns = median_ns * factors[0] * float(np.exp(noise * rng.standard_normal() / np.sqrt(2)))
            if key == ONE:
                given |= fields
                time_ns *= factors[1]
            status = str(given.pop("status", "ok"))
            if status == "ok":
                lines.append(timed(case, implementation, time_ns, **given))
            else:
                lines.append(failed(case, implementation, status, str(given["reason"])))
        return write(self.folder / "runs" / f"{stage}-{number + 1}-{name}.jsonl", lines)


@pytest.fixture
def imagined(tmp_path: Path) -> Imagined:
    """Return a maker of gates from imagined rounds."""
    (tmp_path / "runs").mkdir()
    return Imagined(tmp_path)


def of_one(result: GateResult, metric: str = "time") -> Verdict:
    """Return the verdict on the changed cell."""
    (found,) = [v for v in result.verdicts if (v.case_id, v.implementation) == ONE and v.metric == metric]
    return found
