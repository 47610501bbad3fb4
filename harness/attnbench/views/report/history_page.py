"""A history as a folder: a page that opens offline, its Markdown, and the charts."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench.store.whole_folder import whole_folder
from attnbench.units import count, duration, number, size
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.history.cells import cell_histories, row_of
from attnbench.views.history.tables import (
    changes_table,
    extent,
    how_to_read,
    percent,
    place_of,
    segment_sentences,
    title_of_worst,
    worst,
    worst_table,
)
from attnbench.views.report.blocks import MOST_CHARTS, Figure, Lead, ReportPage, Section
from attnbench.views.report.charts.history_chart import over_commits
from attnbench.views.report.charts.marks import marks_of
from attnbench.views.report.write import PAGE, check_extra, check_place, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.history.point import Point
    from attnbench.history.store import History
    from attnbench.views.document import Row
    from attnbench.views.history.cells import CellHistory
    from attnbench.views.report.blocks import Block
    from attnbench.views.report.charts.marks import Mark


def write_history_page(history: History, out: Path, *, since: str | None, link: str | None, force: bool) -> Path:
    """Write ``index.html``, ``report.md`` and the charts, all or nothing, and return the page's path.

    Args:
        history: a history with at least one point.
        out: the folder.
        since: a measured revision at which the table of changes begins; by default the oldest.
        link: address of a commit's diff, with ``{revision}`` for its hash.
        force: replace an existing page.

    Raises:
        UsageError: the folder exists or cannot be written, or the extra ``report`` is not installed.
    """
    check_place(out, force=force)
    check_extra()
    report = history_report(history, since, link)
    with whole_folder(out) as made:
        write_page(report, made)
    return out / PAGE


def history_report(history: History, since: str | None = None, link: str | None = None) -> ReportPage:
    """Return the content of the page."""
    cells = cell_histories(history)
    rows = worst(history, since, cells)
    place = place_of(history, since)
    marks = marks_of(cell.cell[1] for cell in cells)
    by_name = {one.cell: one for one in cells}
    ordered = [by_name[row["case_id"], row["implementation"], row["device"]] for row in rows]
    commits = commits_of(history.points)
    sections = [
        _changes(history, link),
        Section(anchor="worst", title=title_of_worst(history, since), blocks=[worst_table(rows)]),
        _charts(ordered, commits, marks, place),
        _about(history),
    ]
    last = max(history.points, key=lambda point: point.place)
    return ReportPage(
        title="History",
        subtitle=f"{extent(history)} The last commit is of {last.date[:10]}.",
        sections=[section for section in sections if section is not None],
        marks=marks,
    )


def commits_of(points: Sequence[Point]) -> dict[str, Point]:
    """Return a point of each revision, oldest first."""
    found: dict[str, Point] = {}
    for point in sorted(points, key=lambda one: (one.place, one.date)):
        found.setdefault(point.revision, point)
    return found


def _changes(history: History, link: str | None) -> Section:
    said = f"Confirmed by the gate, on a commit and the one before it: {count(len(history.changes), 'change')}."
    if not history.changes:
        said = "The gate has confirmed no change: attnbench history find looks for some."
    blocks: list[Block] = [Lead(text=said)]
    if history.changes:
        address = None if link is None else functools.partial(link.replace, "{revision}")
        blocks.append(changes_table(history.changes, address))
    return Section(anchor="changes", title="Confirmed changes", blocks=blocks)


def _charts(
    cells: Sequence[CellHistory], commits: Mapping[str, Point], marks: Mapping[str, Mark], since: int
) -> Section | None:
    """Return a small chart for each cell, the worst first."""
    figures = [_figure(number, one, commits, marks, since) for number, one in enumerate(cells[:MOST_CHARTS], start=1)]
    blocks = [figure for figure in figures if figure is not None]
    left = len(cells) - MOST_CHARTS
    more = [Paragraph(text=f"{left} more cells are in the table above.")] if left > 0 else []
    return Section(anchor="cells", title="Cell by cell", blocks=[*blocks, *more]) if blocks else None


def _figure(
    number: int, one: CellHistory, commits: Mapping[str, Point], marks: Mapping[str, Mark], since: int
) -> Figure | None:
    index = {revision: i for i, revision in enumerate(commits)}
    rows = _time_rows(one, commits, index)
    is_time = bool(rows)
    rows = rows or _memory_rows(one, commits, index)
    if not rows:
        return None
    order = list(dict.fromkeys(row["segment"] for row in rows))
    borders = [min(row["index"] for row in rows if row["segment"] == segment) for segment in order[1:]]
    changes = [index[change.revision] for change in one.changes if change.revision in index]
    names = [revision[:7] for revision in commits]
    drawing = over_commits(rows, names, marks, borders=borders, changes=changes, is_time=is_time)
    summary = row_of(one, since)
    what = f"{percent(summary['ratio'])} of time" if is_time else f"{size(summary['memory_peak_bytes'])} now"
    return Figure(
        stem=f"history-{number}",
        title=one.label,
        alt=f"{one.label} over {len(commits)} commits: {what}.",
        drawing=drawing,
        table=_numbers(one, commits, {(row["segment"], row["revision"]): row for row in rows if is_time}),
        note="; ".join(
            f"{change.revision[:10]}: {change.verdict} {percent(change.ratio)}, {change.subject}"
            for change in one.changes
        ),
    )


def _time_rows(one: CellHistory, commits: Mapping[str, Point], index: Mapping[str, int]) -> list[Row]:
    rows: list[Row] = []
    for series in one.series:
        shown = {reading.revision for reading in one.readings[series.segment]}
        for i, revision in enumerate(series.revisions):
            if revision not in shown:
                continue
            value, low, high = series.ratio(i)
            rows.append(
                _row(one, commits[revision], index[revision], series.segment, percent(value))
                | {"value": value, "low": low, "high": high}
            )
    return rows


def _memory_rows(one: CellHistory, commits: Mapping[str, Point], index: Mapping[str, int]) -> list[Row]:
    return [
        _row(one, commits[reading.revision], index[reading.revision], segment, size(reading.memory_peak_bytes))
        | {"value": reading.memory_peak_bytes, "low": None, "high": None}
        for segment, own in one.readings.items()
        for reading in own
        if reading.memory_peak_bytes is not None
    ]


def _row(one: CellHistory, commit: Point, index: int, segment: str, text: str) -> Row:
    return {
        "index": index, "revision": commit.revision, "implementation": one.cell[1], "segment": segment,
        "at": f"{commit.revision[:10]} {commit.subject}", "text": text,
    }  # fmt: skip


def _numbers(one: CellHistory, commits: Mapping[str, Point], times: Mapping[tuple[str, str], Row]) -> Table:
    """Return a table with every revision of a cell."""
    rows: list[Row] = []
    for segment, own in one.readings.items():
        for reading in own:
            time = times.get((segment, reading.revision), {})
            rows.append(
                {
                    "commit": reading.revision[:10], "subject": commits[reading.revision].subject,
                    "segment": segment, "status": reading.status,
                    "ratio": None if not time else time["value"], "time_ns": reading.time_ns,
                    "memory": reading.memory_peak_bytes, "error": reading.error_ratio,
                    "first": reading.first_call_ns,
                }
            )  # fmt: skip
    return Table(
        columns=[
            column("commit", is_code=True),
            column("subject"),
            column("segment", is_code=True),
            column("status", is_status=True),
            Column(title="over the anchor", text=lambda row: number(row["ratio"], 4), is_number=True),
            Column(title="time", text=lambda row: duration(row["time_ns"]), is_number=True),
            column("peak", "memory", unit="bytes"),
            column("error / budget", "error", unit="ratio"),
            Column(title="first call", text=lambda row: duration(row["first"]), is_number=True),
        ],
        rows=rows,
    )


def _about(history: History) -> Section:
    said = [how_to_read(), *segment_sentences(history), *history.warnings]
    facts = [
        {"segment": one.segment, "software": ", ".join(f"{name} {value}" for name, value in one.facts.items())}
        for one in history.segments
    ]
    table = [Table(columns=[column("segment", is_code=True), column("software")], rows=facts)] if facts else []
    return Section(anchor="segments", title="Segments", blocks=[*(Paragraph(text=one) for one in said), *table])
