"""``attnbench.api.history.find`` and ``bisect``: find the commit that changed a cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from attnbench.api.gates import SMOKE, asked_of_gate, rules_of
from attnbench.api.history.results import BisectedChange, FoundChanges
from attnbench.api.history.shared import path_of_this_machine, workshop
from attnbench.api.progress import GateProgress, Log
from attnbench.api.selection import CellSelection
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from attnbench.api.selection import CellOptions, Texts
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.point import CellName, Metric
    from attnbench.history.store import History
    from attnbench.runner.planning.request import Request

_SPARE = 4
"""Cells beyond the fewest from which the gate can estimate the common shift, because some may fail."""
_WORDS: dict[str, frozenset[str]] = {
    "time": frozenset({"slower"}),
    "memory": frozenset({"bigger"}),
    "outcome": frozenset({"wrong", "lost"}),
}


def find(
    scenario: str | os.PathLike[str] = SMOKE,
    *,
    candidates: bool = False,
    minutes: float = 60.0,
    until: str = "HEAD",
    delta: Texts | None = None,
    rounds: int = 4,
    confirm: int = 6,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **cells: Unpack[CellOptions],
) -> FoundChanges:
    """Find the commits that changed cells: candidates from the history, each confirmed by the gate.

    Only the history of the cells that the scenario and the selection describe is searched. Other arguments are those of
    :func:`add` and of :func:`attnbench.api.gate`.

    Args:
        candidates: list the candidates and measure nothing.
        minutes: no further candidate is begun after that.

    Returns:
        The confirmed changes: ``changes``, ``exit_code``.

    Raises:
        UsageError: an argument is invalid.
    """
    from attnbench.history.adding import Budget
    from attnbench.history.changes.candidates import candidates as seek
    from attnbench.history.measuring import sweep_of
    from attnbench.history.revisions import branch
    from attnbench.history.searching import search
    from attnbench.history.store import only_writer, read_history

    log = Log(progress)
    request = asked_of_gate(CellSelection.of(scenario, seed=seed, **cells), log)
    line = branch(Path.cwd(), until)
    path = path_of_this_machine(folder)
    history = read_history(path).on({commit.revision for commit in line})
    points = [point for point in history.points if point.sweep == sweep_of(request)]
    if not points:
        raise UsageError(
            f"{path} has no points of these cells on this branch: attnbench history add, with the same scenario and "
            "selection, measures them"
        )
    rules = rules_of(delta, rounds, confirm)
    found = seek(points, rules)
    if candidates:
        return FoundChanges(found, [], line, log.messages)
    shop = workshop(_of(found, request, history.cells), cache_dir, log, rules, seed)
    with only_writer(path, log.says), GateProgress(log) as observer:
        ends = search(found, history.changes, line, shop, path, observer, budget=Budget(minutes * 60))
    return FoundChanges(found, ends, line, log.messages)


def bisect(
    scenario: str | os.PathLike[str] = SMOKE,
    *,
    cell: str,
    good: str,
    bad: str = "HEAD",
    metric: Metric = "time",
    delta: Texts | None = None,
    rounds: int = 4,
    confirm: int = 6,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **cells: Unpack[CellOptions],
) -> BisectedChange:
    """Find the commit that made one cell slower, bigger or wrong, as git bisect does, with the gate as the judge.

    Other arguments are those of :func:`add` and of :func:`attnbench.api.gate`.

    Args:
        cell: ``CASE_ID IMPLEMENTATION DEVICE``, or words that only one label in the history has.
        good: a revision before the change.
        bad: a later revision that has it.
        metric: ``time``, ``memory`` or ``outcome``.

    Returns:
        The commit, or the shortest range of commits that contains it; ``exit_code`` is 6 for a range.

    Raises:
        UsageError: an argument is invalid.
    """
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.revisions import branch, commit_of
    from attnbench.history.searching import look_into
    from attnbench.history.store import read_history

    if metric not in _WORDS:
        raise UsageError(f"{metric!r} is no metric that is judged: {', '.join(_WORDS)}")
    log = Log(progress)
    request = asked_of_gate(CellSelection.of(scenario, seed=seed, **cells), log)
    here = Path.cwd()
    line = branch(here, bad)
    first = commit_of(good, here, line)
    if first == line[-1]:
        raise UsageError(f"{good} and {bad} are one commit: there is nothing between them")
    history = read_history(path_of_this_machine(folder))
    name, label = _cell(cell, history)
    candidate = Candidate(
        cell=name, label=label, metric=metric, verdicts=_WORDS[metric], good=first.revision, bad=line[-1].revision,
        size=None, q=None,
    )  # fmt: skip
    shop = workshop(_of([candidate], request, history.cells), cache_dir, log, rules_of(delta, rounds, confirm), seed)
    with GateProgress(log) as observer:
        end = look_into(candidate, line, shop, shop.judge(observer))
    return BisectedChange(end, line, log.messages)


def _of(found: Sequence[Candidate], request: Request, known: Iterable[CellName]) -> Request:
    """Restrict the request to the candidates' cells, plus enough others for the gate to estimate the common shift."""
    from attnbench.gate.judge.statistics import LEAST_CELLS_TO_CENTRE
    from attnbench.history.point import ALL

    cells = dict.fromkeys(one.cell for one in found)
    others = [cell for cell in known if cell[0] != ALL and cell not in cells]
    if any(cell[0] == ALL for cell in cells):
        return request
    if any(one.metric == "time" for one in found) and len(cells) + len(others) >= LEAST_CELLS_TO_CENTRE:
        cells |= dict.fromkeys(others[: max(0, LEAST_CELLS_TO_CENTRE + _SPARE - len(cells))])
    return dataclasses.replace(request, cells=tuple(map(" ".join, cells)))


def _cell(text: str, history: History) -> tuple[tuple[str, str, str], str]:
    """Return the cell that a text names, and its label.

    Raises:
        UsageError: it names none, or several.
    """
    words = text.split()
    known = history.cells
    if tuple(words) in known:
        name = (words[0], words[1], words[2])
        return name, known[name]
    found = [cell for cell, label in known.items() if all(word in f"{label} {' '.join(cell)}" for word in words)]
    if len(found) == 1:
        return found[0], known[found[0]]
    if len(found) > 1:
        labels = "; ".join(f"{' '.join(cell)} ({known[cell]})" for cell in found[:4])
        raise UsageError(f"{text!r} names {len(found)} cells: {labels}")
    if len(words) == 3:
        return (words[0], words[1], words[2]), text
    raise UsageError(f"{text!r} names no cell of the history; without one a cell is CASE_ID IMPLEMENTATION DEVICE")
