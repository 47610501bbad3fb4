"""Tries mutants on a case in this process, with the same driver and oracle as for any implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.oracle.oracle import Adjudicator
from attnbench.runner.driver import drive, without_pauses
from attnbench.stages import identities as other_ways
from attnbench.stages.stage import CellLimits, CellRun
from attnbench.stages.table import CHECKED
from attnbench.transport.executor import InProcess
from attnbench.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case
    from attnbench.mutants.mutant import Mutant

_LIMITS = CellLimits(time_s=600.0, memory_bytes=None)


class BrokenMutantError(Exception):
    """A mutant raised instead of giving a wrong answer."""


def trial(case: Case, mutants: Sequence[Mutant], *, identities: bool = False) -> dict[str, str | None]:
    """Return the check's reason for each mutant that supports the case, or ``None`` if the mutant passes.

    With ``identities``, identities are checked too, which takes several times as long.

    Raises:
        BrokenMutantError: if a mutant raises.
    """
    oracle = Adjudicator(guesses=False)
    stages = (*CHECKED, other_ways.STAGE) if identities else CHECKED
    said: dict[str, str | None] = {}
    for mutant in mutants:
        worker = InProcess(Worker(mutant.implementation, repeat_ns=0).answer)  # two calls are enough
        stores_scores = mutant.implementation.declaration.stores_scores
        cell = CellRun(worker, oracle, case, "cpu", _LIMITS, stores_scores=stores_scores)
        values = without_pauses(drive(cell, stages))
        if values["status"] not in ("ok", "wrong", "undecided", "unsupported"):
            raise BrokenMutantError(f"{mutant.name}, {case.label()}: {values['reason']}")
        if values["status"] != "unsupported":
            said[mutant.name] = values["reason"] if values["status"] == "wrong" else None
    return said
