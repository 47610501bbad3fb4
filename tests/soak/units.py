"""The units of a soak: (case, seed) pairs that are judged together, from bounded cases and all implementations."""

from __future__ import annotations

import collections
import dataclasses
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attnbench import Case, make_case
from attnbench.cases.inputs.operands import operand, operand_shapes
from attnbench.cases.masks.table import PARAMETERS
from attnbench.identities.identity import Allowance
from attnbench.oracle.identities import judge_identities
from attnbench.oracle.judge import Truth, find_truth, judge
from attnbench.oracle.selection import requests, select
from attnbench.registry.discover import bundled, implementations_of
from attnbench.registry.found import Found
from attnbench.registry.implementation import Implementation
from attnbench.registry.importing import load_module
from attnbench.stages.agreement import Show
from attnbench.stages.call import FirstCalls
from attnbench.stages.identities import CheckIdentities
from attnbench.stages.prepare import Prepare
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.session import UnsupportedError
from attnbench.worker.worker import Worker
from tests.soak import VALUES_OF_A_SEED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREPARE_S = 2.0
"""Seconds of compiling per case above which an implementation skips the other cases that identities need."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A case with one of its seeds; every implementation is judged on all of the seed's values."""

    case: Case
    name: str
    """Name made of the case and the seed."""
    values: int = VALUES_OF_A_SEED
    """Number of sets of values to draw."""


def cases_of(scenarios: Iterable[str], most_tokens: int) -> list[Case]:
    """Return the distinct cases of some scenarios with seed 0; long sequences and large batches are cut."""
    of_each = [cases_of_one(name, most_tokens) for name in scenarios]
    return list({case.case_id: case for cases in of_each for case in cases}.values())


def cases_of_one(name: str, most_tokens: int) -> list[Case]:
    """Return the cases of one scenario, see :func:`cases_of`."""
    scenario = load_scenario(name)
    wanted = [
        bounded(planned.case, most_tokens)
        for planned in expand(scenario, {})
        if scenario.excluded(planned.case, device="cpu", implementation="soak/any") is None
    ]
    return list({case.case_id: case for case in wanted}.values())


def bounded(case: Case, most_tokens: int) -> Case:
    """Return the case, or if it is too large, a smaller one of its kind."""
    small = max(case.seqlen_q, case.seqlen_kv) <= most_tokens and case.batch <= 4
    if small and case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv <= most_tokens**2:
        return case
    size = case.heads_q // case.heads_kv
    heads_kv = max(1, min(case.heads_kv, 4 // size))
    fields = {
        **case.to_dict(),
        **{name: None for name, parameter in PARAMETERS.items() if parameter.default is None},  # follow from lengths
        "batch": min(case.batch, 2),
        "heads_q": heads_kv * size,
        "heads_kv": heads_kv,
        "seqlen_q": min(case.seqlen_q, 241),
        "seqlen_kv": min(case.seqlen_kv, 241),
    }
    if case.window_left is not None:
        fields["window_left"] = min(case.window_left, 100)
    return make_case(**fields)


def implementations(include: Sequence[str], exclude: Sequence[str]) -> list[Implementation]:
    """Return the registry's implementations that can run on this machine's CPU."""
    return [_loaded(one) for one in bundled() if _is_wanted(one, include, exclude)]


def _is_wanted(one: Found, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if one.unavailable is not None or one.declaration is None or "cpu" not in one.declaration.devices:
        return False
    if one.declaration.ranks:  # it needs several processes
        return False
    included = not include or any(re.search(pattern, one.name) for pattern in include)
    return included and not any(re.search(pattern, one.name) for pattern in exclude)


def _loaded(one: Found) -> Implementation:
    return next(i for i in implementations_of(load_module(one.origin)) if i.declaration.name == one.name)


def units(cases: Sequence[Case], seeds: Sequence[int], values: int = VALUES_OF_A_SEED) -> list[Unit]:
    """Return all units: the first seed of every case, then the other seeds case by case, always the smallest first.

    A soak that is stopped early has therefore seen every case, and most cases with all seeds.
    """
    ordered = sorted(cases, key=_cost)
    named = [(case, dataclasses.replace(case, seed=0).case_id) for case in ordered]
    first, others = seeds[:1], seeds[1:]
    planned = [(case, name, seed) for seed in first for case, name in named]
    planned += [(case, name, seed) for case, name in named for seed in others]
    return [Unit(dataclasses.replace(case, seed=seed), f"{name}/{seed}", values) for case, name, seed in planned]


def _cost(case: Case) -> int:
    """Return the approximate cost for the oracle."""
    pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
    return pairs * (case.head_dim + case.head_dim_v) * (3 if case.needs_gradients else 1)


@dataclasses.dataclass
class Report:
    """The result of a unit: JSON-ready, one line of the soak's file."""

    unit: str
    pairs: dict[str, int] = dataclasses.field(default_factory=dict)
    """Number of judged sets of values, by implementation."""
    worst: dict[str, float] = dataclasses.field(default_factory=dict)
    """Largest error over its budget, by ``implementation tensor dtype``; identities count as a tensor."""
    alarms: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Judge:
    """Judges implementations on a unit; the answer is computed once for all of them."""

    def __init__(self, unit: Unit) -> None:
        self.case, self.values = unit.case, unit.values
        self.report = Report(unit.name)
        self._truths: dict[tuple[int, bool], Truth] = {}
        self._inputs: dict[int, dict[str, NDArray[np.floating]]] = {}

    def __call__(self, implementation: Implementation, seconds: float) -> None:
        """Judge an implementation on the unit's sets of values: all, or as many as fit into the time, at least two."""
        name = implementation.declaration.name
        worker = Worker(implementation, repeat_ns=0)
        try:
            Prepare(case=self.case, device="cpu").serve(worker)
            began = time.monotonic()
            FirstCalls().serve(worker)
            for repetition in range(self.values):
                if repetition > 1 and time.monotonic() - began > seconds:
                    break
                if repetition:
                    worker.session.rewrite(self._values_of(repetition))
                    worker.session.further_call()
                self._judge(worker, name, repetition)
                self.report.pairs[name] = self.report.pairs.get(name, 0) + 1
            self._identities(worker, name, max(0.0, seconds - (time.monotonic() - began)))
        except UnsupportedError:
            return
        except MisconductError as misconduct:
            self._alarm(name, 0, str(misconduct))
        except Exception as error:  # noqa: BLE001 - any exception is a finding
            self._alarm(name, 0, f"{type(error).__name__}: {error}")
        finally:
            worker.end()

    def _values_of(self, repetition: int) -> dict[str, NDArray[np.floating]]:
        """Return the values of :func:`attnbench.worker.tensors.refresh`, computed once for all implementations."""
        if repetition not in self._inputs:
            names = operand_shapes(self.case).keys() & {"q", "k", "v", "dout"}
            self._inputs[repetition] = {name: operand(self.case, name, repetition) for name in sorted(names)}
        return self._inputs[repetition]

    def _truth(self, worker: Worker, repetition: int) -> Truth:
        """Return the truth, with the budget that the implementation's declaration implies."""
        stores_scores = worker.session.implementation.declaration.stores_scores
        key = (repetition, stores_scores)
        if key not in self._truths:
            selection = select(self.case, repetition)
            self._truths[key] = find_truth(self.case, selection, repetition, stores_scores=stores_scores)
        return self._truths[key]

    def _judge(self, worker: Worker, name: str, repetition: int) -> None:
        selection = select(self.case, repetition)
        shown = Show(selection=requests(self.case, selection), result=0).serve(worker)
        said = judge(self.case, selection, self._truth(worker, repetition), shown.outputs, shown.frames)
        for tensor in ("out", "lse", "dq", "dk", "dv"):
            self._keep(name, tensor, getattr(said.metrics, f"{tensor}_error_ratio"))
        if said.problem:
            self._alarm(name, repetition, said.problem)

    def _identities(self, worker: Worker, name: str, seconds: float) -> None:
        """Check identities on the last values, in the remaining time."""
        allowance = Allowance(time_ns=seconds * 1e9, memory_bytes=2**32, prepare_ns=PREPARE_S * 1e9)
        seen = CheckIdentities(allowance=allowance).serve(worker).found
        last = self.report.pairs[name] - 1
        said = judge_identities(self.case, [self._truth(worker, 0), self._truth(worker, last)], seen)
        self._keep(name, "identities", max(said.ratios.values(), default=None))
        if said.problem:
            self._alarm(name, last, said.problem)

    def _keep(self, name: str, tensor: str, ratio: float | None) -> None:
        key = f"{name} {tensor} {self.case.dtype}"
        if ratio is not None and ratio > self.report.worst.get(key, 0.0):
            self.report.worst[key] = ratio

    def _alarm(self, name: str, repetition: int, sentence: str) -> None:
        self.report.alarms.append(
            {
                "implementation": name,
                "case": self.case.to_dict(),
                "label": self.case.label(),
                "repetition": repetition,
                "sentence": sentence,
            }
        )


def added(reports: Iterable[Report], unit: str = "all") -> Report:
    """Merge all reports of a soak into one."""
    total = Report(unit)
    pairs: collections.Counter[str] = collections.Counter()
    for report in reports:
        pairs.update(report.pairs)
        for key, ratio in report.worst.items():
            total.worst[key] = max(ratio, total.worst.get(key, 0.0))
        total.alarms += report.alarms
    total.pairs = dict(pairs)
    return total
