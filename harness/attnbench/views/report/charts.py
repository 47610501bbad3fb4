"""Charts as SVG text, drawn by Vega without a browser; each is readable at the width of a telephone.

Time and memory lie on logarithmic axes: a law ``n^k`` is a straight line there, whose slope is k.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from attnbench.views.report.style import FONT, LIGHT
from attnbench.views.report.ticks import binary_ticks, decimal_ticks, length_ticks, padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.style import Mark

WIDTH = 380
_PLOT_HEIGHT = 240
_LEGEND_LINE = 18
_DOT_LINE = 24
_MOST_ACROSS = 5
_WIDER = 1.2
"""Pixels by which a letter may be wider in the page's font than in the one that Vega measures with."""
_BELOW = 1.6
"""How far the guide lines lie below the least memory of the shortest case."""

_TIME_LABEL = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' s' : datum.value >= 1e6 ? format(datum.value / 1e6, '~g')"
    " + ' ms' : datum.value >= 1e3 ? format(datum.value / 1e3, '~g') + ' µs' : format(datum.value, '~g') + ' ns'"
)
_BYTES_LABEL = (
    "datum.value >= 1073741824 ? format(datum.value / 1073741824, '~g') + ' GiB' : datum.value >= 1048576 ?"
    " format(datum.value / 1048576, '~g') + ' MiB' : datum.value >= 1024 ? format(datum.value / 1024, '~g') + ' KiB' :"
    " format(datum.value, '~g') + ' B'"
)
_LENGTH_LABEL = "datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : format(datum.value, ',')"
_RATIO_LABEL = "format(datum.value, '~g')"


def time_by_length(rows: Sequence[Row], axis: str, marks: Mapping[str, Mark]) -> str:
    """Time against length with intervals.

    Args:
        rows: ``length``, ``implementation``, ``value`` (ns), ``low`` and ``high`` (ns or None).
        axis: what the length is the length of.
        marks: colour and shape of each implementation.
    """
    ends = [end for row in rows for end in (row["value"], row["low"], row["high"]) if end is not None]
    low, high = padded(min(ends), max(ends))
    y = {"title": "time of one call", "scale": _log(low, high), "axis": _axis(decimal_ticks(low, high), _TIME_LABEL)}
    return _by_length(rows, axis, marks, y, [])


def memory_by_length(rows: Sequence[Row], axis: str, marks: Mapping[str, Mark]) -> str:
    """Peak memory against length, with the laws O(n) and O(n^2) as guide lines.

    Args:
        rows: ``length``, ``implementation``, ``value`` (bytes, above 0), ``low`` and ``high`` (None).
        axis: what the length is the length of.
        marks: colour and shape of each implementation.
    """
    values = [row["value"] for row in rows]
    low, high = padded(min(values) / _BELOW, max(values), 1.4)
    y = {
        "title": "peak memory of one call",
        "scale": _log(low, high),
        "axis": _axis(binary_ticks(low, high), _BYTES_LABEL),
    }
    return _by_length(rows, axis, marks, y, _guides(rows, high))


def dots(rows: Sequence[Row], marks: Mapping[str, Mark], *, is_time: bool) -> str:
    """One value for each implementation, with intervals, least first: for a case of a single length.

    Args:
        rows: ``implementation``, ``value``, ``low``, ``high`` and ``text``, which is written beside the dot.
        marks: colour and shape of each implementation.
        is_time: whether values are ns; else they are bytes.
    """
    import altair as alt

    ends = [end for row in rows for end in (row["value"], row["low"], row["high"]) if end is not None]
    low, high = padded(min(ends), max(ends), 1.4)
    ticks = decimal_ticks(low, high, _MOST_ACROSS) if is_time else binary_ticks(low, high, _MOST_ACROSS)
    title, label = ("time of one call", _TIME_LABEL) if is_time else ("peak memory of one call", _BYTES_LABEL)
    names = [row["implementation"] for row in sorted(rows, key=lambda row: (row["value"], row["implementation"]))]
    # The texts stand to the right of the dots: the slowest one's must not leave the plot.
    scale = _log(low, high * (high / low) ** 0.35)
    x = alt.X("value:Q", title=title, scale=scale, axis=_axis(ticks, label))
    base = alt.Chart(_data(rows)).encode(y=_names(names), color=_colour(marks, names, None))
    beside = base.mark_text(align="left", dx=9, fontSize=11).transform_calculate(end="max(datum.value, datum.high)")
    layers = [
        _ends(base, rows).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x, shape=_shape(marks, names, None)),
        beside.encode(x=alt.X("end:Q", scale=scale), text="text:N", color=alt.value(LIGHT["chart-text"])),
    ]
    return _svg(alt.layer(*layers), 56 + _DOT_LINE * len(names), left=_WIDER * max(map(len, names)))


def errors(rows: Sequence[Row], marks: Mapping[str, Mark]) -> str:
    """Error over budget of every judged cell, a line of dots for each implementation; the budget is at 1.

    Args:
        rows: ``implementation`` and ``value`` (error / budget, above 0).
        marks: colour and shape of each implementation.
    """
    import altair as alt

    values = [row["value"] for row in rows]
    low, high = padded(min(*values, 0.1), max(*values, 1.0), 1.5)
    names = sorted({row["implementation"] for row in rows})
    scale = _log(low, high)
    axis = _axis(decimal_ticks(low, high, _MOST_ACROSS), _RATIO_LABEL)
    base = alt.Chart(_data(rows)).encode(y=_names(names), color=_colour(marks, names, None))
    budget = alt.Chart(_data([{"value": 1.0}])).encode(x=alt.X("value:Q", scale=scale))
    layers = [
        budget.mark_rule(color=LIGHT["chart-guide"], strokeDash=[5, 4]),
        base.mark_point(filled=True, size=48, opacity=0.75).encode(
            x=alt.X("value:Q", title="error / budget (dashed: the budget)", scale=scale, axis=axis),
            shape=_shape(marks, names, None),
        ),
    ]
    return _svg(alt.layer(*layers), 56 + _DOT_LINE * len(names), left=_WIDER * max(map(len, names)))


def _by_length(rows: Sequence[Row], axis: str, marks: Mapping[str, Mark], vertical: Row, guides: list[Row]) -> str:
    import altair as alt

    names = sorted({row["implementation"] for row in rows})
    lengths = sorted({row["length"] for row in rows})
    left, right = padded(lengths[0], lengths[-1], 1.15)
    right *= (right / left) ** 0.1 if guides else 1  # room for the guides' names
    x = alt.X("length:Q", title=axis, scale=_log(left, right), axis=_axis(length_ticks(lengths), _LENGTH_LABEL))
    y = alt.Y("value:Q", **vertical)
    # Both channels have one legend, in two columns below the plot.
    legend = alt.Legend(orient="bottom", columns=2, columnPadding=12 + _WIDER * max(map(len, names)), title=None)
    base = alt.Chart(_data(rows)).encode(x=x, color=_colour(marks, names, legend))
    layers = [
        *_guide_layers(guides, x, y),
        base.mark_line(strokeWidth=1.75).encode(y=y),
        _ends(base, rows).encode(y=alt.Y("low:Q", **vertical), y2="high:Q"),
        base.mark_point(filled=True, size=48, opacity=1).encode(y=y, shape=_shape(marks, names, legend)),
    ]
    legend_lines = -(-len(names) // 2)
    return _svg(alt.layer(*layers), _PLOT_HEIGHT + _LEGEND_LINE * legend_lines)


def _guides(rows: Sequence[Row], ceiling: float) -> list[Row]:
    """End points of the guide lines, which start below the curves and end at the last length or the upper edge."""
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


def _guide_layers(guides: list[Row], x: Any, y: Any) -> list[Any]:
    import altair as alt

    if not guides:
        return []
    base = alt.Chart(_data(guides)).encode(x=x, y=y, detail="law:N")
    return [
        base.mark_line(strokeDash=[3, 4], strokeWidth=1, color=LIGHT["chart-guide"]),
        base.mark_text(align="left", dx=7, fontSize=11, color=LIGHT["chart-text"]).encode(text="text:N"),
    ]


def _ends(base: Any, rows: Sequence[Row]) -> Any:
    """Rules from the low to the high end, of those rows which have both."""
    known = [row for row in rows if row["low"] is not None and row["high"] is not None]
    return base.properties(data=_data(known)).mark_rule(strokeWidth=1.75)


def _data(rows: Sequence[Row]) -> dict[str, Any]:
    return {"values": list(rows)}


def _log(low: float, high: float) -> Any:
    import altair as alt

    return alt.Scale(type="log", domain=[low, high], nice=False)


def _axis(ticks: Sequence[float], label: str) -> Any:
    import altair as alt

    return alt.Axis(values=list(ticks), labelExpr=label)


def _names(names: Sequence[str]) -> Any:
    import altair as alt

    return alt.Y(
        "implementation:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=150, grid=True, ticks=False)
    )


def _colour(marks: Mapping[str, Mark], names: Sequence[str], legend: Any) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(names), range=[marks[name].colour for name in names])
    return alt.Color("implementation:N", scale=scale, legend=legend)


def _shape(marks: Mapping[str, Mark], names: Sequence[str], legend: Any) -> Any:
    """For points alone: Vega puts a point on every line that has a shape."""
    import altair as alt

    scale = alt.Scale(domain=list(names), range=[marks[name].shape for name in names])
    return alt.Shape("implementation:N", scale=scale, legend=legend)


def _svg(chart: Any, height: int, left: float = 0) -> str:
    """The chart's SVG, of so many pixels with everything; ``left`` of them kept free."""
    out = io.StringIO()
    plain = {"labelFont": FONT, "titleFont": FONT, "labelColor": LIGHT["chart-text"], "titleColor": LIGHT["chart-text"]}
    chart.properties(
        width=WIDTH,
        height=height,
        padding={"left": 4 + left, "right": 4, "top": 4, "bottom": 4},
        background="transparent",
        autosize={"type": "fit", "contains": "padding"},
    ).configure(font=FONT, aria=False).configure_view(stroke=None).configure_axis(
        **plain,
        labelFontSize=11,
        labelSeparation=10,
        titleFontSize=11,
        titleFontWeight="normal",
        titlePadding=8,
        gridColor=LIGHT["chart-grid"],
        domainColor=LIGHT["chart-axis"],
        tickColor=LIGHT["chart-axis"],
        tickSize=4,
    ).configure_legend(
        **plain, labelFontSize=11, labelLimit=165, symbolSize=60, rowPadding=3, offset=8, symbolOpacity=1
    ).save(out, format="svg")
    return _slim(out.getvalue())


def _slim(svg: str) -> str:
    """The same picture in half of the bytes.

    Inside of an image nothing has a role; frames without a colour are invisible; a hundredth of a pixel is enough; one
    font is named once.
    """
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)"[^>]*/>', "", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    return svg.replace("<svg ", f'<svg font-family="{FONT}" ', 1)
