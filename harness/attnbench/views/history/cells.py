"""The history of each cell: its series by segment, its readings, confirmed changes, and the change since a revision."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from attnbench.history.series import Z95, by_cell_and_segment, readings, time_series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.history.point import CellName, Change
    from attnbench.history.series import Reading, TimeSeries
    from attnbench.history.store import History
    from attnbench.views.document import Row

_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_SPREAD = 0.06
"""The least height of a line, as a logarithm (6 %), so that noise does not look like a change."""
_NOT_OK, _NOT_TIMED, _NEW_SEGMENT, _CHANGE = "✗", "·", "┊", "|"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellHistory:
    """The history of one cell over all revisions."""

    cell: CellName
    label: str
    series: Sequence[TimeSeries]
    """One for each segment, sorted by their oldest revisions."""
    readings: Mapping[str, Sequence[Reading]]
    """By segment, in the same order. Only the first segment has the anchor, although all others measured it, too."""
    changes: Sequence[Change]

    def change_since(self, place: int) -> tuple[float, float] | None:
        """Return the change of time since a revision: the logarithm of the ratio, and its standard error.

        Changes within each segment are added up; the step from one segment to the next counts as no change. The result
        is ``None`` if no segment has two revisions since then.
        """
        total = variance = 0.0
        steps = 0
        for one in self.series:
            inside = [i for i, at in enumerate(one.places) if at >= place]
            if len(inside) >= 2:
                step, se = one.step(inside[0], inside[-1])
                total, variance, steps = total + step, variance + se**2, steps + 1
                place = one.places[inside[-1]]
        return (total, math.sqrt(variance)) if steps else None

    def line(self) -> str:
        """Draw a character for each revision; a bar precedes each revision with a confirmed change."""
        times = {
            (one.segment, name): log for one in self.series for name, log in zip(one.revisions, one.logs, strict=True)
        }
        changed = {change.revision for change in self.changes}
        return _NEW_SEGMENT.join(
            _line(
                [_height(one, times.get((segment, one.revision))) for one in own],
                [one.revision in changed for one in own],
            )
            for segment, own in self.readings.items()
        )


def cell_histories(history: History) -> list[CellHistory]:
    """Return the history of each cell, in the order of the history's cells."""
    series = time_series(history.points)
    by_cell: dict[CellName, dict[str, list[Reading]]] = {}
    anchors: dict[tuple[CellName, str], set[str]] = {}
    for (cell, segment), points in by_cell_and_segment(history.points).items():
        by_cell.setdefault(cell, {})[segment] = readings(points)
        anchors[cell, segment] = {point.anchor for point in points}
    found = []
    for cell, label in history.cells.items():
        segments = dict(sorted(by_cell[cell].items(), key=lambda item: (item[1][0].place, item[1][-1].place)))
        order = list(segments)
        for segment in order[1:]:
            own_anchors = anchors[cell, segment] & {reading.revision for reading in segments[order[0]]}
            kept = [reading for reading in segments[segment] if reading.revision not in own_anchors]
            segments[segment] = kept or segments[segment]
        own = sorted(
            (one for one in series if one.cell == cell), key=lambda one: (order.index(one.segment), one.places[0])
        )
        changes = [change for change in history.changes if change.cell == cell]
        found.append(CellHistory(cell=cell, label=label, series=own, readings=segments, changes=changes))
    return found


def row_of(one: CellHistory, since: int) -> Row:
    """Return a cell's row of the table: its last reading, and the change since a place."""
    every = [reading for own in one.readings.values() for reading in own]
    last = max(every, key=lambda reading: reading.place)
    first = min(
        (reading for reading in every if reading.place >= since), key=lambda reading: reading.place, default=last
    )
    change = one.change_since(since)
    row: Row = {
        "label": one.label,
        "case_id": one.cell[0],
        "implementation": one.cell[1],
        "device": one.cell[2],
        "line": one.line(),
        "revisions": len({reading.revision for reading in every}),
        "status": last.status,
        "since": first.revision,
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "time_ns": last.time_ns,
        "memory_peak_bytes": last.memory_peak_bytes,
        "memory_change_bytes": _difference(first.memory_peak_bytes, last.memory_peak_bytes),
        "error_ratio": last.error_ratio,
        "first_call_ns": last.first_call_ns,
    }
    if change is not None:
        log, se = change
        row |= {
            "ratio": math.exp(log),
            "ratio_low": math.exp(log - Z95 * se),
            "ratio_high": math.exp(log + Z95 * se),
        }
    return row


def badness(row: Row) -> tuple[bool, float, float]:
    """Sort key for the worst first: cells that are not ok, then those that became slower, then by more memory."""
    low = row["ratio_low"] if row["ratio"] is not None else 1.0
    certain = max(math.log(low), 0.0) if low else 0.0
    return (row["status"] == "ok", -certain, -(row["memory_change_bytes"] or 0))


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _height(reading: Reading, log: float | None) -> float | str:
    if reading.status != "ok":
        return _NOT_OK
    if log is not None:
        return float(log)
    return _NOT_TIMED if reading.memory_peak_bytes is None else math.log(max(reading.memory_peak_bytes, 1))


def _line(heights: Sequence[float | str], changed: Sequence[bool]) -> str:
    known = [one for one in heights if isinstance(one, float)]
    middle = (max(known) + min(known)) / 2 if known else 0.0
    spread = max(_LEAST_SPREAD, max(known) - min(known)) if known else _LEAST_SPREAD
    signs = []
    for one, is_changed in zip(heights, changed, strict=True):
        level = 0.0 if isinstance(one, str) else (one - middle) / spread + 0.5
        sign = one if isinstance(one, str) else _LEVELS[min(len(_LEVELS) - 1, int(level * len(_LEVELS)))]
        signs.append(_CHANGE * is_changed + sign)
    return "".join(signs)
