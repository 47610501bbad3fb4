"""``attnbench.api.history.add``: measure revisions that the history lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from attnbench.api.gates import SMOKE, asked_of_gate, rules_of
from attnbench.api.history.results import AddedRevisions
from attnbench.api.history.shared import path_of_this_machine, workshop
from attnbench.api.progress import GateProgress, Log
from attnbench.api.selection import CellSelection, texts
from attnbench.errors import UsageError
from attnbench.gate.tolerances import at_least

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from attnbench.api.selection import CellOptions, Texts
    from attnbench.history.revisions import Commit
    from attnbench.history.store import History
    from attnbench.runner.planning.request import Request


def add(
    scenario: str | os.PathLike[str] = SMOKE,
    *,
    since: str | None = None,
    until: str = "HEAD",
    every: int = 1,
    path: Texts | None = None,
    anchor: str | None = None,
    minutes: float = 60.0,
    rounds: int = 4,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **cells: Unpack[CellOptions],
) -> AddedRevisions:
    """Measure revisions that the history lacks, each in the same rounds as the anchor revision.

    The most informative come first: the ends, then the middle of the widest gap, preferring gaps across which something
    has changed. Each measurement is stored at once, so that the same call continues where it was stopped.

    Other arguments are those of :func:`attnbench.api.gate`.

    Args:
        since: the oldest revision; default the anchor that the history has.
        until: the newest one.
        every: one of so many commits, and both ends.
        path: only commits that touch one of these paths, and both ends.
        anchor: what all are measured with; default the one that the history has, else the oldest revision.
        minutes: no revision is begun that would probably take longer than that.
        rounds: rounds of each revision and its anchor.
        folder: where histories are kept; default ``results/history``.

    Returns:
        The measured revisions, and the history.

    Raises:
        UsageError: an argument is invalid.
    """
    from attnbench.history.adding import Budget, add_revisions
    from attnbench.history.revisions import branch, commit_of, touching
    from attnbench.history.store import only_writer, read_history

    at_least(rounds, 3)
    if every < 1:
        raise UsageError(f"every {every} commits: at least 1")
    log = Log(progress)
    request = asked_of_gate(CellSelection.of(scenario, seed=seed, **cells), log)
    here = Path.cwd()
    line = branch(here, until)
    stored = path_of_this_machine(folder)
    with only_writer(stored, log.says):
        history = read_history(stored)
        shop = workshop(request, cache_dir, log, rules_of(None), seed)
        fixed = _anchor(anchor, since, history, request, line)
        first = commit_of(since, here, line) if since else fixed
        ends = (first, line[-1])
        counted = touching(here, line, texts(path))[::every]
        chosen = [one for one in line[first.place :] if one in ends or one in counted]
        with GateProgress(log) as observer:
            done = add_revisions(
                shop.distinct(chosen), fixed, history, shop, stored, observer,
                rounds=rounds, seed=seed, budget=Budget(minutes * 60),
            )  # fmt: skip
        history = read_history(stored)
    return AddedRevisions(stored, history, done, log.messages)


def _anchor(
    name: str | None, since: str | None, history: History, request: Request, line: Sequence[Commit]
) -> Commit:  # fmt: skip
    from attnbench.history.measuring import sweep_of
    from attnbench.history.revisions import commit_of

    here = Path.cwd()
    if name is not None:
        return commit_of(name, here, line)
    known = {commit.revision: commit for commit in line}
    sweep = sweep_of(request)
    used = [(point.measured_at, point.anchor) for point in history.points if point.sweep == sweep]
    present = [anchor for _, anchor in sorted(used) if anchor in known]
    if present:
        return known[present[-1]]
    if since is None:
        raise UsageError("the history has no points of these cells yet: since which commit? --since v0.1")
    return commit_of(since, here, line)
