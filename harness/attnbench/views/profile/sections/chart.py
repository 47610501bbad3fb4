"""Phases as stacked bars on one scale, each with its floor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnbench.profiling.phases import TITLES, Phase
from attnbench.units import TIMES, duration, number
from attnbench.views.profile.bars import SHORT, total_ns
from attnbench.views.profile.marks import MARKS, SQUARE, STRIPED, STRIPES
from attnbench.views.profile.sentences import share
from attnbench.views.report.charts.drawing import (
    FOCUS,
    TIME_LABEL,
    WIDTH,
    colour,
    drawn,
    layer,
    legend_of,
    quantity,
)
from attnbench.views.report.charts.style import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCell
    from attnbench.views.report.charts.drawing import Drawing, Spec

_BAR, _FLOOR, _LINE = 20, 4, 64
_LETTER = 0.018
"""Width of a letter in a segment's label, as a share of the longest bar."""
_STRIPES = 140
"""Number of stripes on the longest bar."""
_TOOLTIP = [
    {"field": "cell", "type": "nominal", "title": "implementation"},
    {"field": "implementation", "type": "nominal", "title": "phase"},
    {"field": "text", "type": "nominal", "title": "time"},
    {"field": "floor", "type": "nominal", "title": "floor"},
]


def phase_bars(cells: Sequence[ProfiledCell]) -> Drawing:
    """Draw a bar for each cell; a thin bar below each phase shows its floor, cut off at the end of the phase."""
    names = [one.name for one in cells]
    longest = max(map(total_ns, cells))
    rows = [row for one in cells for row in _segments(one, longest)]
    titles = [TITLES[phase] for phase in Phase if any(phase in one.phases for one in cells)]
    down = {"field": "cell", "type": "nominal", "sort": names, "axis": None}
    axis = {"labelExpr": TIME_LABEL, "tickCount": 5}
    x = quantity("start", title="time of one call", scale={"domain": [0, longest]}, axis=axis)
    ends = {"x": x, "x2": {"field": "end"}, "y": down, "opacity": FOCUS, "tooltip": _TOOLTIP}
    text = {"x": x, "y": down, "text": {"field": "label"}, "color": {"value": LIGHT["chart-text"]}}
    above = {"yOffset": -_BAR / 2 - 4, "baseline": "bottom", "fontSize": 12, "fontWeight": "bold", "limit": WIDTH - 20}
    below = {"yOffset": _BAR / 2 + _FLOOR + 4, "baseline": "top", "fontSize": 11}
    heads = [{"cell": one.name, "start": 0, "label": f"{one.name}: {duration(one.cell.median_ns)}"} for one in cells]
    layers = [
        layer({"type": "bar", "size": _BAR}, ends | {"color": colour(MARKS, titles, _legend(titles))}),
        layer(
            {"type": "tick", "color": LIGHT["chart-grid"], "thickness": 1.4, "size": _BAR, "tooltip": None},
            {"x": quantity("at"), "y": down, "opacity": FOCUS},
            transform=[{"filter": "datum.stripes.length > 0"}, {"flatten": ["stripes"], "as": ["at"]}],
        ),
        layer(
            {"type": "bar", "size": _FLOOR, "yOffset": _BAR / 2 + _FLOOR / 2 + 1, "color": LIGHT["chart-text"]},
            ends | {"x2": {"field": "floor_end"}},
            where="isValid(datum.floor_end)",
        ),
        layer({"type": "text", "align": "left"} | below, text, where="datum.label != ''"),
        layer({"type": "text", "align": "left"} | above, text, values=heads),
    ]
    return drawn(layers, rows, 70 + _LINE * len(names) + 18 * ((len(titles) + 2) // 3))


def _segments(one: ProfiledCell, longest: float) -> list[Row]:
    rows, start = [], 0.0
    for phase in Phase:
        time = one.phases.get(phase)
        if time is None:
            continue
        floor = time.floor_ns
        over = f" ({number(time.ns / floor)}{TIMES})" if floor else ""
        name = SHORT[phase]
        rows.append(
            {
                "cell": one.name,
                "implementation": TITLES[phase],
                "start": start,
                "end": start + time.ns,
                "floor_end": start + min(floor, time.ns) if floor else None,
                "label": name if time.ns > _LETTER * (len(name) + 1) * longest else "",
                "text": f"{duration(time.ns)}, {100 * share(time, one):.1f} %",
                "floor": f"{duration(floor)}{over}" if floor else "none",
                "stripes": _stripes(start, start + time.ns, longest / _STRIPES) if phase in STRIPED else [],
            }
        )
        start += time.ns
    return rows


def _stripes(start: float, end: float, step: float) -> list[float]:
    return [step * i for i in range(int(start / step) + 1, int(end / step) + 1) if step * i < end]


def _legend(titles: list[str]) -> Spec:
    """Return a legend with short names, and with stripes for striped phases."""
    striped = [TITLES[phase] for phase in STRIPED]
    short = {TITLES[phase]: name for phase, name in SHORT.items()}
    shape = {"expr": f"indexof({json.dumps(striped)}, datum.value) >= 0 ? '{STRIPES}' : '{SQUARE}'"}
    return legend_of(titles) | {
        "columns": 3,
        "columnPadding": 24,
        "labelExpr": f"{json.dumps(short)}[datum.label]",
        "symbolType": shape,
        "symbolStrokeWidth": 0,
    }
