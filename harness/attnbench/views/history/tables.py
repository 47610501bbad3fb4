"""The tables of a history, for a terminal and the page, and the terminal's view."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.units import ABSENT, count, number, size
from attnbench.views.document import Column, Heading, Paragraph, Table, View, column
from attnbench.views.history.cells import badness, cell_histories, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.history.point import Change
    from attnbench.history.store import History
    from attnbench.views.document import Block, Row
    from attnbench.views.history.cells import CellHistory

MOST_ROWS = 200


def history_view(history: History, name: str, since: str | None = None) -> View:
    """Show a history in a terminal.

    Args:
        history: a history with at least one point.
        name: the machine's name.
        since: a measured revision at which the table of changes begins; by default the oldest.
    """
    rows = worst(history, since)
    blocks: list[Block] = [Heading(text=f"History of {name}", level=1), Paragraph(text=extent(history))]
    if history.changes:
        blocks += [Heading(text="Confirmed changes"), changes_table(history.changes)]
    blocks += [Heading(text=title_of_worst(history, since)), worst_table(rows)]
    blocks += [Paragraph(text=said) for said in (how_to_read(), *segment_sentences(history), *history.warnings)]
    facts = {
        "kind": "history",
        "machine": name,
        "changes": [change.model_dump(mode="json") for change in history.changes],
        "segments": [segment.model_dump(mode="json") for segment in history.segments],
        "warnings": list(history.warnings),
    }
    return View(blocks=blocks, rows=rows, facts=facts)


def worst(history: History, since: str | None, cells: Sequence[CellHistory] | None = None) -> list[Row]:
    """Return a row for each cell, the worst since a revision first."""
    place = place_of(history, since)
    return sorted((row_of(one, place) for one in (cells or cell_histories(history))), key=badness)


def place_of(history: History, revision: str | None) -> int:
    """Return the place of a measured revision, or of the oldest one for ``None``."""
    return min(point.place for point in history.points if revision is None or point.revision == revision)


def extent(history: History) -> str:
    """Say in a sentence how many cells, revisions, anchors and segments there are."""
    points = history.points
    revisions = {point.revision: point.place for point in points}
    first, last = (end(revisions, key=lambda one: revisions[one]) for end in (min, max))
    anchors = {point.anchor for point in points}
    return (
        f"{count(len(history.cells), 'cell')} at {count(len(revisions), 'revision')}, {first[:10]} to {last[:10]}, "
        f"measured with {count(len(anchors), 'anchor')} in {count(len({p.segment for p in points}), 'segment')}."
    )


def title_of_worst(history: History, since: str | None) -> str:
    """Return the heading of the table of the worst cells."""
    place = place_of(history, since)
    first = next(point for point in history.points if point.place == place)
    return f"Since {first.revision[:10]}, the worst first"


def how_to_read() -> str:
    """Explain the characters of the lines."""
    return (
        "A line has a sign for each revision, low is fast (of what is not timed, small), and each segment has a scale "
        "of its own; ┊ is where the software changed, | stands before a confirmed change, ✗ is not ok, · not timed. "
        "Times are ratios to the anchor, from the same rounds; the time and the first call beside them are as they "
        "were, and never judged."
    )


def segment_sentences(history: History) -> list[str]:
    """Say how the software changed from each segment to the next."""
    names = list(dict.fromkeys(point.segment for point in sorted(history.points, key=lambda one: one.measured_at)))
    said = []
    for before, after in itertools.pairwise(names):
        changed = history.facts_of(after).differs_from(history.facts_of(before))
        said.append(f"Segment {after} begins behind {before}: {'; '.join(changed) or 'its facts are not in the file'}.")
    return said


def worst_table(rows: Sequence[Row]) -> Table:
    """Return a table with a row for each cell."""
    columns = [
        Column(title="cell", text=lambda row: row["label"]),
        Column(title="over commits", text=lambda row: row["line"], is_implementation=True),
        Column(title="time since", text=_change, is_number=True),
        Column(title="95 % interval", text=_interval, is_number=True, spare=1),
        column("time", "time_ns", unit="ns"),
        column("peak", "memory_peak_bytes", unit="bytes"),
        Column(title="peak since", text=_memory, is_number=True),
        column("error / budget", "error_ratio", unit="ratio", spare=2),
        column("first call", "first_call_ns", unit="ns", spare=3),
        column("status", is_status=True),
    ]
    return Table(columns=columns, rows=list(rows)[:MOST_ROWS])


def changes_table(changes: Sequence[Change], link: Callable[[str], str | None] | None = None) -> Table:
    """Return a table of confirmed changes, newest first."""
    rows = [change.model_dump() for change in sorted(changes, key=lambda one: -one.place)]
    return Table(
        columns=[
            Column(
                title="commit", text=lambda row: row["revision"][:10], is_code=True,
                link=None if link is None else lambda row: link(row["revision"]),
            ),
            Column(title="date", text=lambda row: row["date"][:10], spare=1),
            column("subject"),
            column("cell", "label"),
            Column(title="is", text=lambda row: row["verdict"]),
            Column(title="by", text=_change, is_number=True),
            Column(title="95 % interval", text=_interval, is_number=True, spare=2),
        ],
        rows=rows,
    )  # fmt: skip


def percent(ratio: float | None) -> str:
    """Format a ratio as a signed change in percent."""
    return ABSENT if ratio is None else f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def _change(row: Row) -> str:
    return percent(row["ratio"])


def _interval(row: Row) -> str:
    if row["ratio_low"] is None or row["ratio_high"] is None:
        return ABSENT
    return f"{percent(row['ratio_low'])} … {percent(row['ratio_high'])}"


def _memory(row: Row) -> str:
    change = row["memory_change_bytes"]
    if not change:
        return ABSENT if change is None else number(0)
    return f"{'+' if change > 0 else '−'}{size(abs(change))}"
