"""Bisection with undecidable commits: which commit to measure next. Pure functions.

Works like ``git bisect``: each measurement halves the commits between a good and a bad one, and undecidable commits are
skipped. If only those are left, the first bad commit is one of several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Answer = Literal["good", "bad", "cannot_tell"]


def bounds(commits: Sequence[str], answers: Mapping[str, Answer]) -> tuple[int, int]:
    """Return the indices of the last good commit and of the first bad one after it.

    Args:
        commits: oldest first; the first counts as good and the last as bad, whatever the answers.
        answers: known answers for the commits between.
    """
    bad = next((i for i, one in enumerate(commits[1:-1], 1) if answers.get(one) == "bad"), len(commits) - 1)
    good = next((i for i in range(bad - 1, 0, -1) if answers.get(commits[i]) == "good"), 0)
    return good, bad


def next_commit(commits: Sequence[str], answers: Mapping[str, Answer]) -> str | None:
    """Return the next commit to measure: the middle of the longest run without answers; ``None`` if there is none.

    Undecidable commits tend to be neighbours (a build that is broken for a while), so the longest run without one
    avoids them.
    """
    good, bad = bounds(commits, answers)
    runs: list[list[str]] = [[]]
    for one in commits[good + 1 : bad]:
        if one in answers:
            runs.append([])
        else:
            runs[-1].append(one)
    longest = max(runs, key=len)
    return longest[(len(longest) - 1) // 2] if longest else None


def suspects(commits: Sequence[str], answers: Mapping[str, Answer]) -> list[str]:
    """Return the candidates for the first bad commit, oldest first; a single one if all answers are clear."""
    good, bad = bounds(commits, answers)
    return list(commits[good + 1 : bad + 1])
