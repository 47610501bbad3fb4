"""The footprint of a call over its time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.units import duration, size
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.profile.cases import titled
from attnbench.views.profile.sentences import sentence
from attnbench.views.report.blocks import Figure, Section
from attnbench.views.report.charts.drawing import BYTES_LABEL, TIME_LABEL, axis_of, drawn, layer, quantity
from attnbench.views.report.charts.style import LIGHT, SERIES_LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.profiling.parts import MemoryOfCall
    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase
    from attnbench.views.report.blocks import Block
    from attnbench.views.report.charts.drawing import Drawing

_STEPS = 12
_TOOLTIP = [
    {"field": "text", "type": "nominal", "title": "footprint"},
    {"field": "at", "type": "nominal"},
    {"field": "line", "type": "nominal"},
]


def section(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return the memory line of each cell that has one, or ``None`` if none has."""
    blocks: list[Block] = []
    for title, one in titled(cases):
        if one.cell.memory is not None and one.cell.memory.points:
            blocks += [_figure(one.cell.memory, one.number, title), *_held(one.cell.memory, title)]
    if not blocks:
        return None
    said = "Bytes above what was allocated before the call: outputs and workspace. The dashed line is the exact peak."
    return Section(anchor="memory", title="Memory over a call", blocks=[Paragraph(text=said), *blocks])


def _figure(memory: MemoryOfCall, number: int, title: str) -> Figure:
    exact = memory.exact_peak_bytes
    known = f", exactly {size(exact)}" if exact is not None else ""
    said = f"peak {size(memory.peak_bytes)}{known}"
    return Figure(
        stem=f"memory-{number}",
        title=f"{title}: {said}",
        alt=f"The footprint over one call of {title}: {said}.",
        drawing=_line(memory),
        table=_steps(memory),
        note=f"Read by {memory.method}{f'; {memory.note}' if memory.note else ''}.",
    )


def _held(memory: MemoryOfCall, title: str) -> list[Block]:
    """Return the memory held at the call's peak by stack, and say how well its sum agrees with the exact peak."""
    note = memory.blocks_note
    if memory.blocks is None:
        return [Paragraph(text=sentence(f"{title}: which stacks allocated it is not known: {note}"))] if note else []
    largest = memory.blocks.largest
    rows: list[Row] = [{"bytes": one.bytes, "count": one.count, "stack": " ← ".join(one.stack)} for one in largest]
    if rest := memory.blocks.bytes - sum(one.bytes for one in largest):
        rows.append({"bytes": rest, "count": None, "stack": "all others"})
    columns = [
        column("asked for", "bytes", unit="bytes"),
        column("blocks", "count", unit="count"),
        column("by, innermost first", "stack", is_code=True),
    ]
    table = Table(
        title=f"{title}: what is allocated at the peak, {size(memory.blocks.bytes)}", columns=columns, rows=rows
    )
    return [table, *([Paragraph(text=sentence(f"{title}: {note}"))] if note else [])]


def _line(memory: MemoryOfCall) -> Drawing:
    rows: list[Row] = [
        {
            "implementation": "footprint",
            "ns": point.at_ns,
            "bytes": point.bytes,
            "at": duration(point.at_ns),
            "text": size(point.bytes),
            "line": point.line,
        }
        for point in memory.points
    ]
    x = quantity("ns", title="time since the call began", axis={"labelExpr": TIME_LABEL, "tickCount": 5})
    y = quantity("bytes", title="footprint", stack=None, axis=axis_of(_ticks(memory), BYTES_LABEL))
    stepped = {"type": "area", "interpolate": "step-after", "line": {"color": SERIES_LIGHT[0], "strokeWidth": 1.75}}
    area = layer(stepped | {"color": SERIES_LIGHT[0], "fillOpacity": 0.15}, {"x": x, "y": y})
    dots = layer({"type": "point", "opacity": 0, "size": 120}, {"x": x, "y": y, "tooltip": _TOOLTIP})
    layers = [area, dots]
    if memory.exact_peak_bytes is not None:
        rule = {"type": "rule", "color": LIGHT["chart-guide"], "strokeDash": [5, 4]}
        layers.append(layer(rule, {"y": quantity("bytes")}, values=[{"bytes": memory.exact_peak_bytes}]))
    return drawn(layers, rows, 260)


def _ticks(memory: MemoryOfCall) -> list[int]:
    """Return ticks at multiples of a power of two that span all footprints, at most eight."""
    ends = [0, *(point.bytes for point in memory.points), memory.exact_peak_bytes or 0]
    step = 1
    while (max(ends) - min(ends)) / step > 6:
        step *= 2
    return [step * i for i in range(min(ends) // step, max(ends) // step + 2)]


def _steps(memory: MemoryOfCall) -> Table:
    """Return the largest steps in the order of time."""
    points = memory.points
    steps = [(after.bytes - before.bytes, after) for before, after in itertools.pairwise(points)]
    largest = sorted(sorted(steps, key=lambda step: -abs(step[0]))[:_STEPS], key=lambda step: step[1].at_ns)
    return Table(
        columns=[
            column("at", unit="ns"),
            column("step", is_number=True),
            column("footprint", "bytes", unit="bytes"),
            column("line", is_code=True),
        ],
        rows=[
            {
                "at": point.at_ns,
                "step": f"{'−' if step < 0 else '+'}{size(abs(step))}",
                "bytes": point.bytes,
                "line": point.line,
            }
            for step, point in largest
        ],
    )
