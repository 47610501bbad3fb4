"""Statistical tests of a dropout mask: is it random, with the case's probability?

No single mask is wrong: the answer follows exactly from any mask. But each weight must be dropped independently with
the case's probability. The tests count the kept weights of each head, and the equal pairs among weights that are in two
heads, in two sequences, or a power of two of rows or keys apart. No weight is in two pairs of a count, so counts are
binomial, and Bernstein's inequality bounds their distances from their means.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.dropout import FALSE_ALARMS
from attnbench.cases.masks import row_runs
from attnbench.cases.masks.visible import within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.stages.agreement import Wanted

    Masks = NDArray[np.bool_]

_MOST_COUNTS = 2**16
"""Largest number of tests of a mask; together they reject a sound generator with probability ``FALSE_ALARMS``."""


def mask_problem(case: Case, kept: Masks, wanted: Wanted) -> str | None:
    """Return a sentence on why a mask is not random with the case's probability, or ``None`` if it is.

    Args:
        case: the problem.
        kept: (query heads, rows, seqlen_kv), True where a weight was kept.
        wanted: which heads and rows they are. Weights hidden by the case's mask are not counted: an implementation need
            not draw for them.
    """
    assert case.dropout is not None
    keeps = 1 - case.dropout
    rows = np.arange(case.seqlen_q) if wanted.rows is None else np.asarray(wanted.rows)
    seen = {b: within(row_runs(case, b)[rows], np.arange(case.seqlen_kv)) for b, _ in wanted.heads}
    visible = np.stack([seen[b] for b, _ in wanted.heads]) if wanted.heads else np.zeros_like(kept)
    for place, mask, shown in zip(wanted.heads, kept, visible, strict=True):
        count, total = int(mask[shown].sum()), int(shown.sum())
        if _is_unlikely(count, total, keeps):
            return (
                f"dropout: {count / total:.4g} of the weights of batch {place[0]}, head {place[1]} were kept, "
                f"not {keeps:.4g}"
            )
    alike = keeps**2 + (1 - keeps) ** 2
    for what, one, other, shown in _pairs(wanted.heads, kept, visible):
        count, total = int((one == other)[shown].sum()), int(shown.sum())
        if _is_unlikely(count, total, alike):
            return (
                f"dropout: {what} are not drawn apart: {count / total:.4g} of their weights share a fate, "
                f"where {alike:.4g} do by chance"
            )
    return None


def _pairs(
    heads: tuple[tuple[int, int], ...], kept: Masks, visible: Masks
) -> Iterator[tuple[str, Masks, Masks, Masks]]:
    """Yield a description of a comparison, the two masks to compare element by element, and where both are visible."""
    places = {place: index for index, place in enumerate(heads)}
    for (b, h), index in places.items():
        first = next(i for (other, _), i in places.items() if other == b)
        if index != first:
            yield f"heads {heads[first][1]} and {h}", kept[first], kept[index], visible[first] & visible[index]
        before = next((i for (other, head), i in places.items() if other < b and head == h), None)
        if before is not None:
            what = f"sequences {heads[before][0]} and {b}"
            yield what, kept[before], kept[index], visible[before] & visible[index]
    for axis, noun in ((1, "rows"), (2, "keys")):
        for apart in (2**power for power in range(12) if 2**power < kept.shape[axis]):
            earlier = np.flatnonzero(np.arange(kept.shape[axis] - apart) // apart % 2 == 0)
            one, other = kept.take(earlier, axis), kept.take(earlier + apart, axis)
            shown = visible.take(earlier, axis) & visible.take(earlier + apart, axis)
            yield f"{noun} that are {apart} apart", one, other, shown


def _is_unlikely(count: int, total: int, share: float) -> bool:
    """Whether a binomial count is beyond Bernstein's bound: P(|X - np| >= t) <= 2 exp(-t^2 / (2 np(1-p) + 2t/3))."""
    log = math.log(2 * _MOST_COUNTS / FALSE_ALARMS)
    bound = log / 3 + math.sqrt((log / 3) ** 2 + 2 * total * share * (1 - share) * log)
    return abs(count - total * share) > bound
