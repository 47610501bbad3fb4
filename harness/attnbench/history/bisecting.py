"""Which commit to look at next, where some cannot be told; pure.

As ``git bisect``: commits lie between a good and a bad one, each look halves them, and a commit that cannot be told is
passed over. Where only such commits are left, the first bad one is one of several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Answer = Literal["good", "bad", "cannot_tell"]


def bounds(commits: Sequence[str], answers: Mapping[str, Answer]) -> tuple[int, int]:
    """Indices of the last good commit and of the first bad one behind it.

    Args:
        commits: oldest first; the first is good and the last is bad, whatever the answers say.
        answers: what is known of those between.
    """
    bad = next((i for i, one in enumerate(commits[1:-1], 1) if answers.get(one) == "bad"), len(commits) - 1)
    good = next((i for i in range(bad - 1, 0, -1) if answers.get(commits[i]) == "good"), 0)
    return good, bad


def next_commit(commits: Sequence[str], answers: Mapping[str, Answer]) -> str | None:
    """The next commit to measure: the middle of the longest run without a verdict; ``None`` when all have one.

    Commits that cannot be told tend to be neighbours (a build that is broken for a while), so that the longest run
    without them is also the way around them.
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
    """Candidates for the first bad commit, oldest first; a single one once every verdict is clear."""
    good, bad = bounds(commits, answers)
    return list(commits[good + 1 : bad + 1])
