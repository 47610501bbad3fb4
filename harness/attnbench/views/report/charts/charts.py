"""Charts of one value over the sequence length or over implementations, readable at a phone's width.

Time and memory have logarithmic axes, on which a law ``n^k`` is a straight line with slope k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.report.charts import ends
from attnbench.views.report.charts.drawing import (
    BYTES_LABEL,
    FOCUS,
    LENGTH_LABEL,
    RATIO_LABEL,
    TIME_LABEL,
    TOOLTIP,
    WIDER,
    Drawing,
    Spec,
    axis_of,
    colour,
    drawn,
    layer,
    log_scale,
    names_down,
    quantity,
    shape,
    spans,
)
from attnbench.views.report.charts.style import LIGHT
from attnbench.views.report.charts.ticks import binary_ticks, decimal_ticks, length_ticks, padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.charts.marks import Mark

_PLOT_HEIGHT = 230
_AXIS_BELOW = 44
"""Height of the horizontal axis and its title, in pixels."""
_DOT_LINE = 24
_SHARES = (1, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.0025, 0.001)
_MOST_ACROSS = 5
_BELOW = 1.6
"""The factor by which guide lines start below the least memory of the shortest case."""


def time_by_length(rows: Sequence[Row], axis: str, marks: Mapping[str, Mark]) -> Drawing:
    """Draw time against length with intervals.

    Rows have ``length``, ``implementation``, ``value`` (ns), ``low`` and ``high`` (ns or None).
    """
    ends = _ends(rows)
    low, high = padded(min(ends), max(ends))
    vertical = {"title": "time of one call", "axis": axis_of(decimal_ticks(low, high), TIME_LABEL)}
    return _by_length(rows, axis, marks, low, high, vertical, law=False)


def memory_by_length(rows: Sequence[Row], axis: str, marks: Mapping[str, Mark]) -> Drawing:
    """Draw peak memory against length, with the laws O(n) and O(n^2) as guide lines.

    Rows have ``length``, ``implementation``, ``value`` (bytes, above 0), ``low`` and ``high`` (None).
    """
    values = [row["value"] for row in rows]
    low, high = padded(min(values) / _BELOW, max(values), 1.4)
    vertical = {"title": "peak memory of one call", "axis": axis_of(binary_ticks(low, high), BYTES_LABEL)}
    return _by_length(rows, axis, marks, low, high, vertical, law=True)


def gain_by_share(rows: Sequence[Row], marks: Mapping[str, Mark]) -> Drawing:
    """Draw the speed-up over the dense case against the share of pairs that a mask leaves visible, and the ideal.

    Rows have ``length`` (1 / share), ``implementation``, ``value`` (ratio), ``low`` and ``high`` (ratio or None).
    """
    sparsest = max(row["length"] for row in rows)
    ends = _ends(rows)
    low, high = padded(min(ends), max(*ends, sparsest))
    right = sparsest * 1.15
    shares = [share for share in _SHARES if 1 / share <= right]
    x = quantity(
        "length",
        title="share of the dense case's pairs that is visible",
        scale=log_scale(1 / 1.15, right),
        axis=axis_of([1 / share for share in shares], "format(100 / datum.value, '~g') + ' %'"),
    )
    vertical = {"title": "speed-up", "axis": axis_of(decimal_ticks(low, high), RATIO_LABEL)}
    ideal = [{"law": "ideal", "length": end, "value": end, "text": ""} for end in (1, sparsest)]
    return _curves(rows, x, marks, low, high, vertical, ideal)


def dots(rows: Sequence[Row], marks: Mapping[str, Mark], *, is_time: bool, title: str | None = None) -> Drawing:
    """Draw one value with its interval for each implementation, least first, for cases of a single length.

    Rows have ``implementation``, ``value`` (ns or bytes), ``low``, ``high``, and ``text``, which is next to the dot.
    Without a ``title`` it is that of one call.
    """
    ends = _ends(rows)
    low, high = padded(min(ends), max(ends), 1.4)
    ticks = decimal_ticks(low, high, _MOST_ACROSS) if is_time else binary_ticks(low, high, _MOST_ACROSS)
    usual, label = ("time of one call", TIME_LABEL) if is_time else ("peak memory of one call", BYTES_LABEL)
    title = title or usual
    names = [row["implementation"] for row in sorted(rows, key=lambda row: (row["value"], row["implementation"]))]
    # The texts are to the right of the dots; leave room for that of the slowest.
    scale = log_scale(low, high * (high / low) ** 0.35)
    base = {"y": names_down(names), "color": colour(marks, names, None), "tooltip": TOOLTIP}
    beside = {"x": quantity("end", scale=scale), "text": {"field": "text"}, "color": {"value": LIGHT["chart-text"]}}
    layers = [
        spans(base | {"x": quantity("low", title=title, scale=scale), "x2": {"field": "high"}}),
        layer(
            {"type": "point", "filled": True, "size": 60, "opacity": 1},
            base
            | {
                "x": quantity("value", title=title, scale=scale, axis=axis_of(ticks, label)),
                "shape": shape(marks, names, None),
            },
        ),
        layer(
            {"type": "text", "align": "left", "dx": 9, "fontSize": 11},
            base | beside,
            transform=[{"calculate": "max(datum.value, datum.high)", "as": "end"}],
        ),
    ]
    return drawn(layers, rows, 56 + _DOT_LINE * len(names), left=WIDER * max(map(len, names)))


def errors(rows: Sequence[Row], marks: Mapping[str, Mark]) -> Drawing:
    """Draw error over budget of every judged cell, a line of dots for each implementation; the budget is at 1.

    Rows have ``implementation`` and ``value`` (error / budget, above 0).
    """
    values = [row["value"] for row in rows]
    low, high = padded(min(*values, 0.1), max(*values, 1.0), 1.5)
    names = sorted({row["implementation"] for row in rows})
    scale = log_scale(low, high)
    axis = axis_of(decimal_ticks(low, high, _MOST_ACROSS), RATIO_LABEL)
    budget = {"type": "rule", "color": LIGHT["chart-guide"], "strokeDash": [5, 4]}
    layers = [
        layer(budget, {"x": quantity("value", scale=scale)}, values=[{"value": 1.0}]),
        layer(
            {"type": "point", "filled": True, "size": 48, "opacity": 0.75},
            {
                "x": quantity("value", title="error / budget (dashed: the budget)", scale=scale, axis=axis),
                "y": names_down(names),
                "color": colour(marks, names, None),
                "shape": shape(marks, names, None),
                "tooltip": TOOLTIP,
            },
        ),
    ]
    return drawn(layers, rows, 56 + _DOT_LINE * len(names), left=WIDER * max(map(len, names)))


def _ends(rows: Sequence[Row]) -> list[float]:
    """Return all values and the ends of their intervals."""
    return [end for row in rows for end in (row["value"], row["low"], row["high"]) if end is not None]


def _by_length(
    rows: Sequence[Row], axis: str, marks: Mapping[str, Mark], low: float, high: float, vertical: Row, law: bool
) -> Drawing:
    lengths = sorted({row["length"] for row in rows})
    left, right = padded(lengths[0], lengths[-1], 1.15)[0], lengths[-1]
    ticks = axis_of(length_ticks(lengths), LENGTH_LABEL)
    x = quantity("length", title=axis, scale=log_scale(left, right), axis=ticks)
    return _curves(rows, x, marks, low, high, vertical, _guides(rows, high) if law else [])


def _curves(
    rows: Sequence[Row], x: Spec, marks: Mapping[str, Mark], low: float, high: float, vertical: Row, guides: list[Row]
) -> Drawing:
    names = sorted({row["implementation"] for row in rows})
    vertical = vertical | {"scale": log_scale(low, high)}
    y = quantity("value", **vertical)
    coloured, shaped = colour(marks, names, None), shape(marks, names, None)
    base = {"x": x, "color": coloured, "opacity": FOCUS, "tooltip": TOOLTIP}
    height = max(_PLOT_HEIGHT, ends.LINE * (len(names) + 1))
    layers = [
        *_guide_layers(guides, x, y),
        layer({"type": "line", "strokeWidth": 1.75}, base | {"y": y}),
        spans(base | {"y": quantity("low", **vertical), "y2": {"field": "high"}}),
        layer({"type": "point", "filled": True, "size": 48}, base | {"y": y, "shape": shaped}),
        *ends.end_layers(x, vertical, coloured, shaped),
    ]
    named = ends.end_rows(rows, low, high, height)
    return drawn(layers, rows, height + _AXIS_BELOW, right=WIDER * max(map(len, names)), ends=named)


def _guides(rows: Sequence[Row], ceiling: float) -> list[Row]:
    """Return the ends of the guide lines, which start below the curves and end at the last length or the top."""
    first, last = min(row["length"] for row in rows), max(row["length"] for row in rows)
    start = min(row["value"] for row in rows if row["length"] == first) / _BELOW
    found = []
    for power, law in ((1, "O(n)"), (2, "O(n²)")):
        end = min(float(last), first * (ceiling / start) ** (1 / power))
        found += [
            {"law": law, "length": first, "value": start, "text": ""},
            {"law": law, "length": end, "value": start * (end / first) ** power, "text": law},
        ]
    return found


def _guide_layers(guides: list[Row], x: Spec, y: Spec) -> list[Spec]:
    if not guides:
        return []
    base = {"x": x, "y": y, "detail": {"field": "law", "type": "nominal"}}
    line = {"type": "line", "strokeDash": [3, 4], "strokeWidth": 1, "color": LIGHT["chart-guide"]}
    text = {"type": "text", "align": "right", "dx": -3, "dy": 12, "fontSize": 11, "color": LIGHT["chart-text"]}
    return [
        layer(line, base, values=guides),
        layer(text, base | {"text": {"field": "text", "type": "nominal"}}, values=guides),
    ]
