"""Choice of the revision to measure next. Pure functions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


def most_informative(
    wanted: Sequence[str], measured: Collection[str], changed: Callable[[str, str], bool], past: Collection[str] = ()
) -> str | None:
    """Return the missing revision that tells most: an end first, then the middle of the widest gap, changed gaps first.

    A gap with a change across it hides the commit that made it, and halving narrows it fastest. Among unchanged gaps
    the widest leaves most room for a change that was reverted.

    Args:
        wanted: revisions, oldest first.
        measured: revisions that have points.
        changed: whether some cell differs between two measured revisions.
        past: revisions that need not or cannot be measured.

    Returns:
        ``None`` if nothing is missing.
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
