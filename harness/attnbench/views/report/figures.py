"""Figures: a chart, a description of it, and its numbers as a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from attnbench.units import count, duration, duration_interval, length, size
from attnbench.views import columns
from attnbench.views.document import Column, Paragraph, Row, Table
from attnbench.views.report.blocks import Block, Figure, groups_drawn
from attnbench.views.report.charts import charts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.groups import Group
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.material import Material

_TIMES = [
    columns.TIME,
    columns.INTERVAL,
    *map(columns.of_metric, ("time_wall_ns", "time_graph_ns", "host_enqueue_ns", "tflops", "percent_of_peak")),
]
_MEMORIES = [
    columns.MEMORY,
    *map(columns.of_metric, ("memory_output_bytes", "memory_workspace_bytes", "memory_held_bytes")),
    Column(title="per token", text=lambda row: size(row["value"] / row["length"]), is_number=True),
]


def group_figures(
    material: Material, noun: str, figure: Callable[[str, str, Group, Mapping[str, Mark]], Figure | None]
) -> list[Block]:
    """Return a chart for each group in which anything was measured, except for the one at the top of the page."""
    blocks: list[Block] = []
    left_out, most = 0, groups_drawn(material.sources)
    for source in material.sources:
        for group in source.grouping.groups:
            if group is material.leading:
                continue
            if len(blocks) >= most:
                left_out += 1
                continue
            found = figure(f"{noun}-{len(blocks) + 2}", source.title(group), group, material.marks)
            if found is not None:
                blocks.append(dataclasses.replace(found, facets=source.facets(group)))
    if left_out:
        more = count(left_out, "more group")
        text = f"{more} of cases are not drawn here: where scripts run, choose one above; data/cells.csv has them all."
        blocks.append(Paragraph(text=text))
    if blocks:
        return blocks
    leading = material.leading
    if leading is not None and figure("", "", leading, material.marks) is not None:
        return [Paragraph(text=f"The chart of {noun} is the one that the page begins with.")]
    return [Paragraph(text=f"No {noun} was measured: either the run was not asked to, or no cell is ok.")]


def leading_figures(material: Material) -> list[Block]:
    """Return time and memory of the group with the most times, next to each other."""
    group = material.leading
    for source in material.sources:
        if group is None or not any(group is one for one in source.grouping.groups):
            continue
        shared = source.grouping.common if group.label else ""
        title = " · ".join(part for part in (source.title(group), shared) if part)
        found = [time_figure("time-1", f"Time: {title}", group, material.marks)]
        found.append(memory_figure("memory-1", f"Memory: {title}", group, material.marks))
        return [dataclasses.replace(one, facets=source.facets(group)) for one in found if one is not None]
    return []


def time_figure(stem: str, name: str, group: Group, marks: Mapping[str, Mark]) -> Figure | None:
    """Draw a group's time against its lengths, or a dot for each implementation if there is only one length.

    Returns:
        The figure, or ``None`` if nothing in the group has a time.
    """
    rows = []
    for cell in group.cells:
        if cell.timing is not None:
            estimate = cell.timing.estimate
            text = duration(estimate.value)
            if estimate.low is not None:
                text += f" ({duration_interval(estimate.low, estimate.high)})"
            rows.append(_point(cell, estimate.value, estimate.low, estimate.high, text))
    return _figure(stem, name, group, rows, marks, what="time", shown=_TIMES) if rows else None


def memory_figure(stem: str, name: str, group: Group, marks: Mapping[str, Mark]) -> Figure | None:
    """Draw a group's peak memory like :func:`time_figure`; ``None`` if no peak is above 0."""
    peaks = [(cell, peak) for cell in group.cells if (peak := cell.metrics.memory_peak_bytes) is not None]
    rows = [_point(cell, peak, None, None, size(peak)) for cell, peak in peaks if peak]
    if not rows:
        return None
    figure = _figure(stem, name, group, rows, marks, what="memory", shown=_MEMORIES)
    zeros = len(peaks) - len(rows)
    note = f"{count(zeros, 'reading')} of 0 B cannot be drawn on a logarithmic axis." if zeros else ""
    return dataclasses.replace(figure, note=note)


def _point(cell: CellResult, value: float | None, low: float | None, high: float | None, text: str) -> Row:
    """Return a row for the chart and for its table."""
    tokens = cell.case.seqlen_kv
    return {
        **cell.numbers(),
        "length": tokens,
        "at": length(tokens),
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
    drawn = [
        {key: row[key] for key in ("length", "at", "implementation", "value", "low", "high", "text")} for row in rows
    ]
    if len(lengths) == 1:
        plain = [{**row, "text": row["text"].partition(" (")[0]} for row in drawn]
        drawing = charts.dots(plain, marks, is_time=what == "time")
        where = f"at {group.axis} {length(lengths[0])}"
    else:
        draw = charts.time_by_length if what == "time" else charts.memory_by_length
        drawing = draw(drawn, group.axis, marks)
        where = f"against {group.axis}, {length(lengths[0])} to {length(lengths[-1])}"
    last = sorted((row for row in rows if row["length"] == lengths[-1]), key=lambda row: row["value"])
    ends = [f"{row['implementation']} {row['text'].partition(' (')[0]}" for row in (last[0], last[-1])]
    at_end = f"only {ends[0]}" if len(last) == 1 else f"least {ends[0]}, most {ends[1]}"
    noun = "Time of one call" if what == "time" else "Peak memory of one call"
    return Figure(
        stem=stem,
        title=f"{name} · {group.axis} {length(lengths[0])}" if len(lengths) == 1 else name,
        alt=f"{noun} {where}, {name}. At {length(lengths[-1])}: {at_end}.",
        drawing=drawing,
        table=Table(
            columns=[columns.length_column(group.axis), columns.IMPLEMENTATION, *columns.filled(shown, rows)],
            rows=rows,
        ),
    )
