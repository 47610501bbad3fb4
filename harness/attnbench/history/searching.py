"""Confirm candidates with the gate, one after the other, and store the confirmed changes."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from attnbench.history.confirming import Finding, Judgement, confirm
from attnbench.history.point import Change
from attnbench.history.store import append

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.gate.measure.rounds import GateObserver
    from attnbench.history.adding import Budget
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.measuring import GateJudge
    from attnbench.history.revisions import Commit
    from attnbench.history.workshop import Workshop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A candidate and the result of looking into it."""

    candidate: Candidate
    finding: Finding | None
    """``None`` if the change was known already."""
    change: Change | None
    """The change, if a single commit made it."""


def search(
    candidates: Sequence[Candidate],
    known: Sequence[Change],
    line: Sequence[Commit],
    shop: Workshop,
    path: Path,
    observer: GateObserver,
    *,
    budget: Budget,
) -> list[Ended]:
    """Confirm candidates while there is time; known changes are returned without measuring again.

    ``line`` is the branch, oldest first; confirmed changes are appended to ``path``.
    """
    judge = shop.judge(observer)
    places = {commit.revision: commit.place for commit in line}
    ends: list[Ended] = []
    for one in candidates:
        before = [change for change in known if _explains(change, one, places)]
        if before:
            ends.append(Ended(candidate=one, finding=None, change=before[0]))
            continue
        if not budget.has_room():
            break
        shop.says(f"looking into {one.label}: {one.metric}")
        end = look_into(one, line, shop, judge)
        if end.change is not None:
            append(path, [end.change])
        ends.append(end)
    return ends


def look_into(candidate: Candidate, line: Sequence[Commit], shop: Workshop, judge: GateJudge) -> Ended:
    """Find the commit that made a change, among those that change anything measured."""
    commits = {commit.revision: commit for commit in line}
    first, last = (commits[name].place for name in (candidate.good, candidate.bad))
    between = [commit.revision for commit in shop.distinct(line[first : last + 1])]
    if len(between) < 2:
        same = Judgement(decision="same", sentence="both are the same code")
        finding = Finding(outcome="not_confirmed", before=candidate.good, suspects=[], judgement=same)
        return Ended(candidate=candidate, finding=finding, change=None)
    finding = confirm(between, functools.partial(judge.judge, candidate))
    change = None
    if finding.outcome == "confirmed":
        change = change_of(candidate, finding, commits[finding.suspects[0]])
    return Ended(candidate=candidate, finding=finding, change=change)


def change_of(candidate: Candidate, finding: Finding, commit: Commit) -> Change:
    """Return the line that stores a confirmed change."""
    case_id, implementation, device = candidate.cell
    found = finding.judgement
    return Change(
        revision=commit.revision, before=finding.before, place=commit.place, date=commit.date, subject=commit.subject,
        case_id=case_id, implementation=implementation, device=device, label=candidate.label, metric=candidate.metric,
        verdict=found.verdict, sentence=found.sentence[:500], ratio=found.ratio, ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
    )  # fmt: skip


def _explains(change: Change, candidate: Candidate, places: dict[str, int]) -> bool:
    return (
        (change.cell, change.metric) == (candidate.cell, candidate.metric)
        and change.verdict in candidate.verdicts
        and places[candidate.good] < change.place <= places[candidate.bad]
    )
