"""Which revision to measure next; pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


def most_informative(
    wanted: Sequence[str], measured: Collection[str], changed: Callable[[str, str], bool], past: Collection[str] = ()
) -> str | None:
    """The missing revision that tells most: the ends, then the middle of the widest gap, first of those with a change.

    A gap across which something has changed hides the commit that did it; halving it narrows that most. Of the others
    the widest has the most room for a change that came and went.

    Args:
        wanted: revisions, oldest first.
        measured: those of them that have points.
        changed: whether some cell differs between two measured revisions.
        past: revisions that cannot be measured.

    Returns:
        ``None`` where nothing is missing.
    """
    missing = [i for i, one in enumerate(wanted) if one not in measured and one not in past]
    if not missing:
        return None
    known = [i for i, one in enumerate(wanted) if one in measured]
    if not known or missing[-1] > known[-1]:
        return wanted[missing[-1]]
    if missing[0] < known[0]:
        return wanted[missing[0]]
    gaps = []
    for left, right in itertools.pairwise(known):
        inside = [i for i in missing if left < i < right]
        if inside:
            gaps.append((changed(wanted[left], wanted[right]), len(inside), right, inside))
    inside = max(gaps)[-1]
    return wanted[inside[(len(inside) - 1) // 2]]
