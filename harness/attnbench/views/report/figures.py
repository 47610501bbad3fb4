"""Figures: a chart, what it shows in words, and its numbers as a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from attnbench.cases.case import CHOICES
from attnbench.views import columns
from attnbench.views.document import Column, Row, Table
from attnbench.views.format import count, duration, length, number, rate, size
from attnbench.views.report import charts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.groups import Group
    from attnbench.views.report.style import Mark

MOST_DOTS = 60
"""So many of an implementation's errors are drawn for one dtype: evenly out of all of them, the largest among them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with everything that stands for it where it cannot be seen."""

    stem: str
    """Names the file and the anchor, such as ``time-1``."""
    title: str
    alt: str
    svg: str
    table: Table
    note: str = ""


def time_figure(stem: str, name: str, group: Group, marks: Mapping[str, Mark]) -> Figure | None:
    """Time of a group against its lengths, or one dot for each implementation where there is a single length.

    Returns:
        ``None`` where nothing in the group has a time.
    """
    rows = []
    for cell in group.cells:
        if cell.timing is not None:
            estimate = cell.timing.estimate
            rows.append(_point(cell, estimate.value, estimate.low, estimate.high, duration(estimate.value)))
    shown = [columns.TIME, columns.INTERVAL, _RATE, _PEAK]
    return _figure(stem, name, group, rows, marks, what="time", shown=shown) if rows else None


def memory_figure(stem: str, name: str, group: Group, marks: Mapping[str, Mark]) -> Figure | None:
    """Peak memory of a group, as :func:`time_figure`; ``None`` where nothing in the group was weighed above 0."""
    weighed = [cell for cell in group.cells if cell.memory_bytes is not None]
    rows = [
        _point(cell, cell.memory_bytes, None, None, size(cell.memory_bytes)) for cell in weighed if cell.memory_bytes
    ]
    if not rows:
        return None
    figure = _figure(stem, name, group, rows, marks, what="memory", shown=[columns.MEMORY, _PER_TOKEN])
    zeros = len(weighed) - len(rows)
    note = f"{count(zeros, 'reading')} of 0 B cannot be drawn on a logarithmic axis." if zeros else ""
    return dataclasses.replace(figure, note=note)


def error_figure(stem: str, dtype: str, cells: Sequence[CellResult], marks: Mapping[str, Mark]) -> Figure | None:
    """Error over budget of all cells of a dtype; ``None`` where none was judged."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        if cell.error_ratio is not None:
            found.setdefault(cell.implementation, []).append(cell.error_ratio)
    rows: list[Row] = [
        {"implementation": name, "value": r} for name, all_of in found.items() for r in _spread(all_of) if r
    ]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row["value"])
    judged = count(sum(map(len, found.values())), "judged cell")
    exact = any(ratio == 0 for all_of in found.values() for ratio in all_of)
    return Figure(
        stem=stem,
        title=dtype,
        alt=f"Error over budget of {judged} in {dtype}, by implementation. The largest is {number(worst['value'])}, "
        f"of {worst['implementation']}; above 1 is wrong.",
        svg=charts.errors(rows, marks),
        table=error_table(cells),
        note="Errors of exactly 0 cannot be drawn on a logarithmic axis." if exact else "",
    )


def error_table(cells: Iterable[CellResult]) -> Table:
    """Worst and median error over budget for each implementation and dtype."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        if cell.error_ratio is not None or cell.status == "wrong":
            found.setdefault((cell.implementation, cell.case.dtype), []).append(cell)
    order = CHOICES["dtype"]
    rows = [_error_row(*key, found[key]) for key in sorted(found, key=lambda key: (order.index(key[1]), key[0]))]
    return Table(
        columns=[
            Column(title="dtype", text=lambda row: str(row["dtype"])),
            columns.IMPLEMENTATION,
            Column(title="judged", text=lambda row: f"{row['judged']:,}", is_number=True),
            Column(title="wrong", text=lambda row: f"{row['wrong']:,}", is_number=True),
            Column(title="median error / budget", text=lambda row: number(row["median"]), is_number=True),
            Column(title="worst", text=lambda row: number(row["worst"]), is_number=True),
        ],
        rows=rows,
    )


def _error_row(implementation: str, dtype: str, cells: Sequence[CellResult]) -> Row:
    ratios = sorted(cell.error_ratio for cell in cells if cell.error_ratio is not None)
    return {
        "implementation": implementation,
        "dtype": dtype,
        "judged": len(cells),
        "wrong": sum(1 for cell in cells if cell.status == "wrong"),
        "median": ratios[len(ratios) // 2] if ratios else None,
        "worst": ratios[-1] if ratios else None,
    }


_RATE = Column(title="rate", text=lambda row: rate(row["tflops"]), is_number=True)
_PEAK = Column(title="% of peak", text=lambda row: number(row["percent_of_peak"]), is_number=True)
_PER_TOKEN = Column(title="per token", text=lambda row: size(row["value"] / row["length"]), is_number=True)


def _point(cell: CellResult, value: float | None, low: float | None, high: float | None, text: str) -> Row:
    """A row of a chart and of the table beside it."""
    return {
        **cell.numbers(),
        "length": cell.case.seqlen_kv,
        "value": value,
        "low": low,
        "high": high,
        "text": text,
    }


def _figure(
    stem: str,
    name: str,
    group: Group,
    rows: list[Row],
    marks: Mapping[str, Mark],
    *,
    what: Literal["time", "memory"],
    shown: Sequence[Column],
) -> Figure:
    lengths = sorted({row["length"] for row in rows})
    drawn = [{key: row[key] for key in ("length", "implementation", "value", "low", "high", "text")} for row in rows]
    if len(lengths) == 1:
        svg = charts.dots(drawn, marks, is_time=what == "time")
        where = f"at {group.axis} {length(lengths[0])}"
    else:
        draw = charts.time_by_length if what == "time" else charts.memory_by_length
        svg = draw(drawn, group.axis, marks)
        where = f"against {group.axis}, {length(lengths[0])} to {length(lengths[-1])}"
    last = sorted((row for row in rows if row["length"] == lengths[-1]), key=lambda row: row["value"])
    ends = [f"{row['implementation']} {row['text']}" for row in (last[0], last[-1])]
    at_end = f"only {ends[0]}" if len(last) == 1 else f"least {ends[0]}, most {ends[1]}"
    noun = "Time of one call" if what == "time" else "Peak memory of one call"
    return Figure(
        stem=stem,
        title=f"{name} · {group.axis} {length(lengths[0])}" if len(lengths) == 1 else name,
        alt=f"{noun} {where}, {name}. At {length(lengths[-1])}: {at_end}.",
        svg=svg,
        table=Table(
            columns=[columns.length_column(group.axis), columns.IMPLEMENTATION, *shown],
            rows=rows,
        ),
    )


def _spread(values: Sequence[float]) -> list[float]:
    """All of few values; of many, as many as are drawn, evenly from the least to the largest."""
    ordered = sorted(values)
    if len(ordered) <= MOST_DOTS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (MOST_DOTS - 1))] for i in range(MOST_DOTS)]
