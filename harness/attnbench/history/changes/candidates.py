"""Ranges of commits in which cells seem to have changed, for the gate to confirm."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

from attnbench.gate.judge.statistics import SCREEN_SHARE
from attnbench.gate.judge.verdicts import tolerated_bytes
from attnbench.history.changes.change_points import q_values, steps
from attnbench.history.series import by_cell_and_segment, readings, time_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.gate.judge.statistics import Rules
    from attnbench.history.changes.change_points import Step
    from attnbench.history.point import CellName, Metric, Point
    from attnbench.history.series import Reading, TimeSeries

_SAYS_NOTHING = frozenset({"invalid", "skipped", "undecided"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A suspected change of one cell, after commit ``good`` and at or before commit ``bad``."""

    cell: CellName
    label: str
    metric: Metric
    verdicts: frozenset[str]
    """Verdicts of the gate that would confirm it."""
    good: str
    bad: str
    size: float | None
    """Relative change; ``None`` for outcomes."""
    q: float | None
    """False discovery rate over all cells; ``None`` for memory and outcomes, which are not tested."""


def candidates(points: Sequence[Point], rules: Rules) -> list[Candidate]:
    """Return all suspected changes: of time with the largest first, then of memory and outcomes.

    The points must be of one sweep. Changes within the gate's tolerances are not reported.

    Raises:
        ChangePointError: if ruptures is not installed and there are series of times to search.
    """
    return [*of_times(time_series(points), rules), *of_readings(points, rules)]


def of_times(series: Sequence[TimeSeries], rules: Rules) -> list[Candidate]:
    """Return the steps of all series, at a false discovery rate of at most the gate's."""
    found = [steps(one) for one in series]
    chosen: list[tuple[float, Candidate]] = []
    for one, own, rates in zip(series, found, q_values(found), strict=True):
        sure = [(step, q) for step, q in zip(own, rates, strict=True) if q <= rules.q]
        for several in _gathered(sure, rules):
            size = sum(step.size for step, _ in several)
            candidate = Candidate(
                cell=one.cell,
                label=one.label,
                metric="time",
                verdicts=frozenset({"slower" if size > 0 else "faster"}),
                good=one.revisions[several[0][0].earliest - 1],
                bad=one.revisions[several[-1][0].latest],
                size=math.expm1(size),
                q=max(q for _, q in several),
            )
            chosen.append((abs(size), candidate))
    return [candidate for _, candidate in sorted(chosen, key=lambda item: -item[0])]


def of_readings(points: Iterable[Point], rules: Rules) -> list[Candidate]:
    """Return changes of memory and of outcomes between consecutive measured revisions."""
    found = []
    for (cell, _), own in by_cell_and_segment(points).items():
        told = [one for one in readings(own) if one.status not in _SAYS_NOTHING]
        for before, after in itertools.pairwise(told):
            about = {"cell": cell, "label": own[0].label, "good": before.revision, "bad": after.revision, "q": None}
            if (before.status == "ok") != (after.status == "ok"):
                verdicts = frozenset({"gained"} if after.status == "ok" else {"wrong", "lost"})
                found.append(Candidate(**about, metric="outcome", verdicts=verdicts, size=None))  # type: ignore[arg-type]  # names of fields
            elif (change := memory_step(before, after, rules.memory)) is not None:
                verdicts = frozenset({"bigger" if change > 0 else "smaller"})
                found.append(Candidate(**about, metric="memory", verdicts=verdicts, size=change))  # type: ignore[arg-type]  # as above
    return found


def memory_step(before: Reading, after: Reading, share: float) -> float | None:
    """Return the relative change of peak memory, or ``None`` if the gate's rule tolerates it."""
    base, head = before.memory_peak_bytes, after.memory_peak_bytes
    if base is None or head is None:
        return None
    resolution = max(before.memory_resolution_bytes, after.memory_resolution_bytes)
    return (head - base) / max(base, 1) if abs(head - base) > tolerated_bytes(base, share, resolution) else None


def _gathered(found: Sequence[tuple[Step, float]], rules: Rules) -> list[list[tuple[Step, float]]]:
    """Group steps: each large enough for the gate to detect alone, or runs of smaller ones in one direction."""
    near = SCREEN_SHARE * math.log1p(rules.delta)
    groups: list[list[tuple[Step, float]]] = []
    for step, q in found:
        is_small = abs(step.size) < near
        last = groups[-1] if groups else None
        goes_on = last and is_small and abs(last[-1][0].size) < near and (last[-1][0].size > 0) == (step.size > 0)
        if last is not None and goes_on:
            last.append((step, q))
        else:
            groups.append([(step, q)])
    return [group for group in groups if abs(sum(step.size for step, _ in group)) >= near]
