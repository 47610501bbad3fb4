"""Tries all mutants on the cases of a scenario in one process per processor, and tallies the results."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import sys
from typing import TYPE_CHECKING

from attnbench.cases.cost import tensor_elements
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.mutants.messages import About, List, Try
from attnbench.transport.child import Child
from attnbench.transport.executor import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.cases.case import Case

_DEADLINE_S = 600.0


class SensitivityError(Exception):
    """A mutant raised, or the process that tries it crashed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally(About):
    """The result of one mutant."""

    tried: int
    """Number of cases that it was tried on: all that it supports, or fewer once enough cases have caught it."""
    caught: tuple[Case, ...]
    reason: str | None
    """The check's first reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The results of all mutants for the cases of a scenario."""

    tallies: tuple[Tally, ...]
    cases: tuple[Case, ...]

    @property
    def unseen(self) -> tuple[Tally, ...]:
        """Mutants that no case catches."""
        return tuple(tally for tally in self.tallies if not tally.caught)


def measure_sensitivity(cases: Sequence[Case], progress: Callable[[int], None]) -> Sensitivity:
    """Try every mutant on every case.

    ``progress`` is called after each case with the number of cases done.

    Raises:
        SensitivityError: if a mutant raises, or crashes its process.
    """
    try:
        return _measured(cases, progress)
    except ExecutorError as error:
        what = "the mutants' process ended" if error.is_gone else "a mutant broke"
        raise SensitivityError(f"{what}: {error.reason}") from error


def _measured(cases: Sequence[Case], progress: Callable[[int], None]) -> Sensitivity:
    count = max(1, min(os.cpu_count() or 1, len(cases)))
    with contextlib.ExitStack() as stack:
        children = [_start(stack) for _ in range(count)]
        for child in children:
            child.send(List())
        *_, everything = (child.receive(List(), _DEADLINE_S).mutants for child in children)
        said: dict[str, dict[str, str | None]] = {case.case_id: {} for case in cases}
        dealt = sorted(cases, key=lambda case: sum(tensor_elements(case).values()))

        def drive(child: Child, share: Sequence[Case], again: tuple[str, ...] | None) -> None:
            for case in share:
                said[case.case_id].update(child.ask(Try(case=case, again=again), _DEADLINE_S).said)
                progress(sum(1 for answers in said.values() if answers))

        def everywhere(again: tuple[str, ...] | None) -> None:
            """Try the cases from small to large: most mutants are caught by small ones, and skip the large ones."""
            with concurrent.futures.ThreadPoolExecutor(count) as threads:
                started = [threads.submit(drive, child, dealt[i::count], again) for i, child in enumerate(children)]
                for future in started:
                    future.result()

        everywhere(None)
        caught_by_oracle = {name for answers in said.values() for name, reason in answers.items() if reason}
        unseen = tuple(mutant.name for mutant in everything if mutant.name not in caught_by_oracle)
        if unseen:  # identities take several times as long, so only the remaining mutants are tried with them
            everywhere(unseen)
    tallies = []
    for mutant in everything:
        name = mutant.name
        tried = [(case, said[case.case_id][name]) for case in cases if name in said[case.case_id]]
        caught = [(case, reason) for case, reason in tried if reason is not None]
        tallies.append(
            Tally(
                **dataclasses.asdict(mutant),
                tried=len(tried),
                caught=tuple(case for case, _ in caught),
                reason=caught[0][1] if caught else None,
            )
        )
    return Sensitivity(tallies=tuple(tallies), cases=tuple(cases))


def _start(stack: contextlib.ExitStack) -> Child:
    child = Child([sys.executable, "-P", "-m", "attnbench.mutants", "{read}", "{write}"], worker_environment(1))
    stack.callback(child.close)
    return child
