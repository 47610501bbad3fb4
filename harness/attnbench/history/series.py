"""Series from points: each revision's time over that of the first anchor, within one segment. Numbers in, numbers out.

A point is a measured difference between two revisions' logarithms of time. Points of several anchors are connected if
an anchor was measured with another one, and a revision may have been measured twice. The values are therefore fitted to
all differences, like a levelling network in surveying: least squares weighted by the differences' own variances. If the
differences contradict each other by more than these allow, all variances are multiplied by the reduced chi square
(R. T. Birge, Phys. Rev. 40, 207, 1932). Along a chain of anchors this is the sum of its links, and of their variances.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.grouping import grouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from attnbench.history.point import CellName, Point

    Vector = NDArray[np.float64]

LEAST_SE = 1e-4
"""Lower bound of a standard error: equal samples have no spread, but builds of the same code differ by more."""
Z95 = 1.959964
"""Half the width of a normal 95 % interval, in standard errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSeries:
    """One cell's times in one segment, relative to the series' first anchor."""

    cell: CellName
    label: str
    segment: str
    anchor: str
    """The first anchor, whose logarithm is 0."""
    revisions: Sequence[str]
    """Oldest first."""
    places: Sequence[int]
    logs: Vector
    covariance: NDArray[np.float64]
    """Covariance of the logarithms: those that share a link in the chain of anchors share its error."""

    def ratio(self, index: int) -> tuple[float, float, float]:
        """Return the time over the anchor's, and the ends of its 95 % interval."""
        half = Z95 * math.sqrt(float(self.covariance[index, index]))
        value = float(self.logs[index])
        return math.exp(value), math.exp(value - half), math.exp(value + half)

    def step(self, earlier: int, later: int) -> tuple[float, float]:
        """Return the difference of two logarithms, and its standard error."""
        between = self.covariance[later, later] + self.covariance[earlier, earlier]
        variance = float(between - 2 * self.covariance[later, earlier])
        return float(self.logs[later] - self.logs[earlier]), math.sqrt(max(0.0, variance))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Measurements of one cell at one revision in one segment; repeated ones are combined."""

    revision: str
    place: int
    status: str
    """``ok``, or the first status that is not."""
    time_ns: float | None
    memory_peak_bytes: int | None
    """The minimum: disturbances only add to a peak."""
    memory_resolution_bytes: int
    error_ratio: float | None
    """The maximum."""
    first_call_ns: float | None
    """The minimum."""


def by_cell_and_segment(points: Iterable[Point]) -> dict[tuple[CellName, str], list[Point]]:
    """Group points that can be compared, oldest revision first."""
    ordered = sorted(points, key=lambda one: (one.label, one.place, one.measured_at))
    return grouped(ordered, lambda one: (one.cell, one.segment))


def time_series(points: Iterable[Point]) -> list[TimeSeries]:
    """Return all series of times; anchors never measured with each other give a cell several series."""
    found = []
    for (cell, segment), own in by_cell_and_segment(points).items():
        edges = [
            (point.revision, point.anchor, point.log_ratio, max(point.se, LEAST_SE))
            for point in own
            if point.log_ratio is not None and point.se is not None and point.revision != point.anchor
        ]
        places = {point.revision: point.place for point in own}
        for anchor, logs, covariance in adjusted(edges, places):
            kept = sorted((name for name in logs if name in places), key=lambda name: places[name])
            rows = [list(logs).index(name) for name in kept]
            found.append(
                TimeSeries(
                    cell=cell, label=own[0].label, segment=segment, anchor=anchor, revisions=kept,
                    places=[places[name] for name in kept],
                    logs=np.array([logs[name] for name in kept]),
                    covariance=covariance[np.ix_(rows, rows)],
                )
            )  # fmt: skip
    return found


def adjusted(
    edges: Sequence[tuple[str, str, float, float]], places: Mapping[str, int]
) -> list[tuple[str, dict[str, float], NDArray[np.float64]]]:
    """Fit values to measured differences, for each connected component.

    Args:
        edges: revision, anchor, difference of their logarithms, its standard error.
        places: by revision; the anchor with the lowest place is the first.

    Returns:
        The first anchor of each component, the logarithms by revision (0 at that anchor), and their covariance.
    """
    found = []
    for part in _parts(edges):
        names = dict.fromkeys(name for revision, anchor, _, _ in part for name in (anchor, revision))
        first = min((anchor for _, anchor, _, _ in part), key=lambda name: places.get(name, -1))
        column = {name: i for i, name in enumerate(name for name in names if name != first)}
        design = np.zeros((len(part), len(column)))
        for row, (revision, anchor, _, _) in enumerate(part):
            for name, sign in ((revision, 1.0), (anchor, -1.0)):
                if name != first:
                    design[row, column[name]] = sign
        measured = np.array([difference for _, _, difference, _ in part])
        weights = np.array([1 / se**2 for _, _, _, se in part])
        covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
        values = covariance @ (design.T @ (weights * measured))
        free = len(part) - len(column)
        if free > 0:
            chi_square = float(np.sum(weights * (measured - design @ values) ** 2))
            covariance = covariance * max(1.0, chi_square / free)
        logs = {first: 0.0} | {name: float(values[i]) for name, i in column.items()}
        whole = np.zeros((len(logs), len(logs)))
        whole[1:, 1:] = covariance
        found.append((first, logs, whole))
    return found


def readings(points: Iterable[Point]) -> list[Reading]:
    """Return the readings of one cell in one segment, oldest revision first."""
    ordered = sorted(points, key=lambda one: (one.place, one.measured_at))
    return [_reading(same) for same in grouped(ordered, lambda one: one.revision).values()]


def _reading(same: Sequence[Point]) -> Reading:
    bad = [point.status for point in same if point.status != "ok"]
    return Reading(
        revision=same[0].revision,
        place=same[0].place,
        status=bad[0] if bad else "ok",
        time_ns=min((one.time_ns for one in same if one.time_ns is not None), default=None),
        memory_peak_bytes=min(
            (one.memory_peak_bytes for one in same if one.memory_peak_bytes is not None), default=None
        ),
        memory_resolution_bytes=max((one.memory_resolution_bytes or 0 for one in same), default=0),
        error_ratio=max((one.error_ratio for one in same if one.error_ratio is not None), default=None),
        first_call_ns=min((one.first_call_ns for one in same if one.first_call_ns is not None), default=None),
    )


def _parts(edges: Sequence[tuple[str, str, float, float]]) -> list[list[tuple[str, str, float, float]]]:
    """Return the edges of each connected component."""
    parts: list[tuple[set[str], list[tuple[str, str, float, float]]]] = []
    for edge in edges:
        ends = {edge[0], edge[1]}
        touched = [part for part in parts if part[0] & ends]
        parts = [part for part in parts if not part[0] & ends]
        parts.append((ends.union(*(part[0] for part in touched)), [e for part in touched for e in part[1]] + [edge]))
    return [part[1] for part in parts]
