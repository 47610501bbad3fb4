"""Reasons to trust a run's times less than their intervals say: other load, and A/A pairs that differ."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.machine.interference import busy, stolen
from attnbench.units import count, times
from attnbench.views.compare import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult

_UNFUSED = "unfused"
"""Prefix of back ends that several implementations report, each for a computation of its own."""


def noise_sentences(run: RunFile, cells: Sequence[CellResult]) -> list[str]:
    """Return the sentences above the answer; none if nothing was timed or there is no reason for doubt."""
    timed = [cell for cell in cells if cell.timing is not None]
    if not timed:
        return []
    said = [sentence[:1].upper() + sentence[1:] + "." for sentence in busy(run.header.environment)]
    share = max((cell.metrics.steal_share or 0.0 for cell in timed), default=0.0)
    return [*said, *stolen(share), *_unlike_equals(timed)]


def _unlike_equals(timed: Sequence[CellResult]) -> Iterator[str]:
    """Yield a sentence if implementations with the same back end differ beyond noise: an A/A test that failed."""
    known = (cell for cell in timed if cell.metrics.backend and not cell.metrics.backend.startswith(_UNFUSED))
    groups = grouped(known, lambda cell: (cell.case_id, cell.device, cell.metrics.backend))
    pairs = [
        Pair(reference=one, subject=other)
        for group in groups.values()
        for one, other in itertools.combinations(group, 2)
    ]
    unlike = [pair for pair in pairs if pair.difference != "within noise"]
    if not unlike:
        return
    worst = max(unlike, key=_factor)
    names = f"{worst.reference.implementation} and {worst.subject.implementation}"
    yield (
        f"{names} ran the same back end and differ by up to {times(_factor(worst))} (in {len(unlike)} of "
        f"{count(len(pairs), 'such pair')}): of smaller differences in this run nothing can be told."
    )


def _factor(pair: Pair) -> float:
    gain = pair.speedup.value
    return max(gain, 1 / gain)
