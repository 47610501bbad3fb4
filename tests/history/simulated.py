"""Histories and gates from noise models: one cell at sixty commits, one of which may have changed it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from attnbench.gate.judge.statistics import Rules
from attnbench.history.changes.candidates import of_times
from attnbench.history.confirming import Judgement, confirm
from attnbench.history.series import TimeSeries
from tests.gate.simulated import DEDICATED, SHARED, Noise, one_gate

if TYPE_CHECKING:
    from attnbench.history.changes.change_points import Vector

COMMITS = 60
CELLS_OF_A_GATE = 30
SPIKE = 0.2


@dataclasses.dataclass(frozen=True)
class Kind:
    """A noise model of a history's points and of a gate's pairs on the same machine."""

    title: str
    sd: float
    """Standard deviation of a point, as stated by its interval."""
    gate: Noise
    correlation: float = 0.0
    """Correlation of a point with the one before."""
    spikes: float = 0.0
    """Share of points that are 20 % slower."""
    rules: Rules = dataclasses.field(default_factory=Rules)


KINDS = (
    Kind("white, 1 %", 0.01, DEDICATED),
    Kind("autocorrelated (0.6), 1 %", 0.01, DEDICATED, correlation=0.6),
    Kind("white, 1 %, and 5 % spikes", 0.01, DEDICATED, spikes=0.05),
    Kind("white, 3 %", 0.03, SHARED),
    Kind("autocorrelated (0.6), 3 %", 0.03, SHARED, correlation=0.6),
    Kind("white, 3 %, and 5 % spikes", 0.03, SHARED, spikes=0.05),
    Kind("white, 3 %; gates of 8 and 16 rounds", 0.03, SHARED, rules=Rules(screen_rounds=8, confirm_rounds=16)),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a search of one history."""

    candidates: int
    named: Sequence[int]
    """Confirmed commits."""
    gates: int


def series_of(truth: Vector, kind: Kind, rng: np.random.Generator) -> TimeSeries:
    """Return the points of a history with these true logarithms; the first commit is the anchor."""
    count = len(truth)
    noise = rng.standard_normal(count)
    for i in range(1, count):
        noise[i] = kind.correlation * noise[i - 1] + np.sqrt(1 - kind.correlation**2) * noise[i]
    spikes = SPIKE * (rng.random(count) < kind.spikes)
    logs = truth + kind.sd * noise + spikes
    logs[0] = truth[0]  # the others were measured relative to the anchor
    covariance = np.diag([0.0] + [kind.sd**2] * (count - 1))
    return TimeSeries(
        cell=("case", "a/plain", "cpu"), label="a/plain", segment="s", anchor="0",
        revisions=[str(i) for i in range(count)], places=list(range(count)), logs=logs - logs[0],
        covariance=covariance,
    )  # fmt: skip


def search(truth: Vector, kind: Kind, rng: np.random.Generator) -> Outcome:
    """Search a history and confirm by gates, with the project's own code except for measuring."""
    found = of_times([series_of(truth, kind, rng)], kind.rules)
    named: list[int] = []
    gates = 0
    for one in found:
        (wanted,) = one.verdicts

        def judge(base: str, head: str, wanted: str = wanted) -> Judgement:
            nonlocal gates
            gates += 1
            effects = np.zeros(CELLS_OF_A_GATE)
            effects[0] = truth[int(head)] - truth[int(base)]
            decided = one_gate(rng, effects, kind.gate, kind.rules)[0][0]
            assert decided is not None
            if decided.decision == wanted:
                return Judgement(decision="changed", verdict=wanted, ratio=decided.effect.ratio)
            return Judgement(decision="cannot_tell" if decided.decision == "ambiguous" else "same")

        between = [str(i) for i in range(int(one.good), int(one.bad) + 1)]
        finding = confirm(between, judge)
        if finding.outcome == "confirmed":
            named.append(int(finding.suspects[0]))
    return Outcome(candidates=len(found), named=named, gates=gates)


def stepped(size: float, at: int, count: int = COMMITS) -> Vector:
    """Return true logarithms with a step of ``size`` from commit ``at`` on."""
    truth = np.zeros(count)
    truth[at:] = np.log1p(size)
    return truth
