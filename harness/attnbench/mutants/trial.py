"""One case against every mutant: through the same session and the same judge as any implementation."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.oracle.identities import judge_identities
from attnbench.oracle.judge import find_truth, judge
from attnbench.oracle.selection import requests, select
from attnbench.worker.identities import Allowance
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.session import Session, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case
    from attnbench.mutants.mutant import Mutant
    from attnbench.oracle.judge import Truth

_EVERYTHING = Allowance(time_ns=math.inf, memory_bytes=math.inf, prepare_ns=math.inf)


class BrokenMutantError(Exception):
    """A mutant raised instead of giving a wrong answer."""


def trial(case: Case, mutants: Sequence[Mutant], *, identities: bool = False) -> dict[str, str | None]:
    """What the check says of each mutant that supports the case: why it is wrong, or ``None`` where it goes unseen.

    Args:
        case: the problem.
        mutants: what to try on it.
        identities: whether other ways to the same answer are looked at too, which takes several times as long.

    Raises:
        BrokenMutantError: when a mutant raises; none of them is meant to.
    """
    truths: dict[int, Truth] = {}
    said: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        for mutant in mutants:
            try:
                said[mutant.name] = _reason(case, mutant, truths, Path(folder), identities=identities)
            except UnsupportedError:
                continue
            except Exception as error:
                raise BrokenMutantError(f"{mutant.name}, {case.label()}: {type(error).__name__}: {error}") from error
    return said


def _reason(case: Case, mutant: Mutant, truths: dict[int, Truth], folder: Path, *, identities: bool) -> str | None:
    """As the runner goes through a cell that is checked and not timed (:mod:`attnbench.runner.cell`)."""
    session = Session(mutant.implementation, case, "cpu", repeat_ns=0)  # two calls are enough for what is tried often
    try:
        session.prepare()
        for result in range(session.first_call()["results"]):
            reason = _judged(session, case, truths, folder, repetition=0, result=result)
            if reason:
                return reason
        session.fresh_call()
        reason = _judged(session, case, truths, folder, repetition=1, result=0)
        if reason or not identities:
            return reason
        found = session.identities(_EVERYTHING)["found"]
        return str(judge_identities(case, [truths[0], truths[1]], found)["problem"] or "") or None
    except MisconductError as misconduct:
        return str(misconduct)
    finally:
        session.close()


def _judged(
    session: Session, case: Case, truths: dict[int, Truth], folder: Path, *, repetition: int, result: int
) -> str | None:
    selection = select(case, repetition)
    if repetition not in truths:
        truths[repetition] = find_truth(case, selection, repetition)
    shown = session.dump(requests(case, selection), folder, result)
    return judge(case, selection, truths[repetition], shown["outputs"], folder).problem
