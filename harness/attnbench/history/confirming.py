"""From a candidate to a commit: the gate judges the ends, then bisects. Pure except for the judge."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

from attnbench.history.bisecting import next_commit, suspects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.history.bisecting import Answer

Decision = Literal["changed", "same", "cannot_tell"]
_ANSWERS: dict[Decision, Answer] = {"changed": "bad", "same": "good", "cannot_tell": "cannot_tell"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """The gate's answer on one cell between two commits."""

    decision: Decision
    verdict: str = ""
    """The gate's verdict."""
    sentence: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


class Judge(Protocol):
    """Compares a cell at two commits."""

    def __call__(self, base: str, head: str) -> Judgement:
        """Return the judgement on ``head`` against ``base``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of looking into a candidate."""

    outcome: Literal["confirmed", "spread", "narrowed", "not_confirmed", "cannot_tell"]
    """``confirmed``: one commit made the change, judged against the one before. ``spread``: the ends differ, but no
    single commit changes more than is tolerated. ``narrowed``: one of several commits that could not be told apart."""
    before: str
    suspects: Sequence[str]
    judgement: Judgement
    """The gate's answer on the single commit, or else on the ends."""


def confirm(commits: Sequence[str], judge: Judge) -> Finding:
    """Find the commit that made a change.

    Args:
        commits: at least two, oldest first, from one before the change to one after it.
        judge: compares two of them.
    """
    ends = judge(commits[0], commits[-1])
    outside = Finding(outcome="not_confirmed", before=commits[0], suspects=list(commits[1:]), judgement=ends)
    if ends.decision != "changed":
        return outside if ends.decision == "same" else dataclasses.replace(outside, outcome="cannot_tell")
    answers: dict[str, Answer] = {}
    while (one := next_commit(commits, answers)) is not None:
        answers[one] = _ANSWERS[judge(commits[0], one).decision]
    left = suspects(commits, answers)
    before = commits[commits.index(left[0]) - 1]
    if len(left) > 1:
        return Finding(outcome="narrowed", before=before, suspects=left, judgement=ends)
    step = ends if (before, left[0]) == (commits[0], commits[-1]) else judge(before, left[0])
    if step.decision == "changed":
        return Finding(outcome="confirmed", before=before, suspects=left, judgement=step)
    if step.decision == "cannot_tell":
        return Finding(outcome="narrowed", before=before, suspects=left, judgement=ends)
    return Finding(outcome="spread", before=commits[0], suspects=list(commits[1:]), judgement=ends)
