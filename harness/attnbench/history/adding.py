"""Add revisions to a history, the most informative first, until the time is spent; each is stored at once."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING

from attnbench.gate.folders import open_folder
from attnbench.gate.measure.rounds import GateError
from attnbench.gate.measure.source import SideError
from attnbench.history.changes.candidates import memory_step
from attnbench.history.choosing import most_informative
from attnbench.history.measuring import measure, software_of, sweep_of
from attnbench.history.revisions import Commit
from attnbench.history.series import by_cell_and_segment, readings, time_series
from attnbench.history.store import append
from attnbench.history.workshop import runs_folder
from attnbench.machine.environment import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attnbench.gate.measure.rounds import GateObserver
    from attnbench.history.measuring import Measured
    from attnbench.history.point import Point, Segment
    from attnbench.history.store import History
    from attnbench.history.workshop import Workshop

_SURE, _WORTH_A_LOOK = 3.0, 0.02
_MEMORY_SHARE = 0.005


class Budget:
    """Time that may be spent; tests pass another clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = clock() + seconds
        self._longest = 0.0
        self._began: float | None = None

    def has_room(self) -> bool:
        """Whether another step as long as the longest so far would end in time; always true for the first."""
        now = self._clock()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began, first = now, self._began is None
        return first or now + self._longest <= self._ends


@dataclasses.dataclass(kw_only=True)
class Added:
    """Outcome of adding revisions."""

    measured: list[Commit] = dataclasses.field(default_factory=list)
    same: dict[str, str] = dataclasses.field(default_factory=dict)
    """Revisions with the same code as a measured one, and that one."""
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    """Revisions that could not be measured, and why."""
    left: int = 0
    """Number of revisions that there was no time for."""


def add_revisions(
    wanted: Sequence[Commit],
    anchor: Commit,
    history: History,
    shop: Workshop,
    path: Path,
    observer: GateObserver,
    *,
    rounds: int,
    seed: int,
    budget: Budget,
) -> Added:
    """Measure the missing revisions of ``wanted`` (oldest first), the most informative next, until the time is spent.

    Each is stored at once.

    Raises:
        UsageError: if the anchor cannot be prepared, or the history cannot be written.
    """
    sweep = sweep_of(shop.request)
    points = [point for point in history.points if point.sweep == sweep]
    segments = {one.segment for one in history.segments}
    commits = {commit.revision: commit for commit in wanted}
    base = shop.side(anchor.revision)
    plan = {
        "anchor": base.identity, "request": shop.request.to_dict(), "rounds": rounds, "seed": seed,
        "software": software_of(environment(), shop.request.threads),
    }  # fmt: skip
    folder = runs_folder("add", plan)
    open_folder(folder, plan, shop.says)
    added = Added()
    again: list[Commit] = []
    while True:
        measured = {point.revision for point in points} | {anchor.revision}
        past = {*added.same, *added.failed}
        one = most_informative(list(commits), measured, functools.partial(differ, points), past)
        commit = again.pop() if again else commits.get(one or "")
        if commit is None:
            return added
        if not budget.has_room():
            added.left = len([name for name in commits if name not in measured | past])
            return added
        try:
            side = shop.side(commit.revision)
            twin = {base.identity: anchor.revision} | {point.code: point.revision for point in points}
            if side.identity in twin and twin[side.identity] != commit.revision:
                added.same[commit.revision] = twin[side.identity]
                continue
            shop.says(f"{commit.revision[:10]} {commit.subject}")
            found = measure(
                commit, anchor, (base, side), shop.request, rounds, folder / "runs", observer, seed=seed
            )  # fmt: skip
        except (SideError, GateError) as error:
            shop.says(f"{commit.revision[:10]} {commit.subject}: {error}")
            added.failed[commit.revision] = str(error)
            continue
        again = bridge(points, found, commit)
        append(path, new_lines(found, points, segments))
        points = [*points, *found.points]
        segments.add(found.segment.segment)
        added.measured.append(commit)


def new_lines(found: Measured, points: Sequence[Point], segments: set[str]) -> list[Point | Segment]:
    """Return the lines to store: the anchor's points once per segment, not once per revision."""
    known = {(one.revision, one.cell, one.segment) for one in points if one.revision == one.anchor}
    kept = [one for one in found.points if (one.revision, one.cell, one.segment) not in known]
    return [*([] if found.segment.segment in segments else [found.segment]), *kept]


def bridge(points: Sequence[Point], found: Measured, commit: Commit) -> list[Commit]:
    """Return the last revision before a new segment: measured there as well, it reveals a change between the two."""
    if any(point.segment == found.segment.segment for point in points):
        return []
    anchors = {point.anchor for point in found.points}
    before = [one for one in points if one.place < commit.place and one.revision not in anchors]
    if not before:
        return []
    last = max(before, key=lambda one: one.place)
    return [Commit(revision=last.revision, place=last.place, date=last.date, subject=last.subject)]


def differ(points: Sequence[Point], earlier: str, later: str) -> bool:
    """Whether some cell seems to differ between two measured revisions; a hint for choosing the next, no verdict."""
    for series in time_series(points):
        names = list(series.revisions)
        if earlier in names and later in names:
            step, se = series.step(names.index(earlier), names.index(later))
            if abs(step) > _SURE * se and abs(step) > _WORTH_A_LOOK:
                return True
    for own in by_cell_and_segment(points).values():
        found = {reading.revision: reading for reading in readings(own)}
        if earlier in found and later in found:
            before, after = found[earlier], found[later]
            if before.status != after.status or memory_step(before, after, _MEMORY_SHARE) is not None:
                return True
    return False
