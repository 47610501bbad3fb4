"""Parts that all charts share: Vega-Lite specifications, and their rendering to SVG without a browser.

Specifications are plain dictionaries. Altair would take half a second to import and a tenth of a second for each chart
of ten curves, most of it for copies.

A specification has two parameters that the page's script sets, the same in all charts: the names of ``hidden``
implementations, and the name of the one in ``focus``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Any

from attnbench.views.report.charts.style import FONT, LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.charts.marks import Mark

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH = 460
POINTS = "points"
"""The name of a drawing's data in its specification; all layers share it."""
ENDS = "ends"
"""The name of the data with the curves' names."""
WIDER = 1.2
"""Pixels by which a letter can be wider in the page's font than in the font that Vega measures with."""

TIME_LABEL = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' s' : datum.value >= 1e6 ? format(datum.value / 1e6, '~g')"
    " + ' ms' : datum.value >= 1e3 ? format(datum.value / 1e3, '~g') + ' µs' : format(datum.value, '~g') + ' ns'"
)
BYTES_LABEL = (
    "datum.value >= 1073741824 ? format(datum.value / 1073741824, '~g') + ' GiB' : datum.value >= 1048576 ?"
    " format(datum.value / 1048576, '~g') + ' MiB' : datum.value >= 1024 ? format(datum.value / 1024, '~g') + ' KiB' :"
    " format(datum.value, '~g') + ' B'"
)
LENGTH_LABEL = "datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : format(datum.value, ',')"
RATIO_LABEL = "format(datum.value, '~g')"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart."""

    spec: Spec
    """A Vega-Lite specification that includes its data."""

    @functools.cached_property
    def svg(self) -> str:
        """The chart as SVG, drawn without a browser."""
        import vl_convert

        return _slim(vl_convert.vegalite_to_svg(self.spec))


def quantity(field: str, **more: Any) -> Spec:
    """Return an encoding channel for numbers."""
    return {"field": field, "type": "quantitative"} | more


def layer(
    mark: Spec, encoding: Spec, *, values: Sequence[Row] = (), data: str = POINTS, where: str = "", **more: Any
) -> Spec:
    """Return one layer of a chart: a mark and its channels.

    Args:
        mark: the Vega-Lite mark, with its ``type``.
        encoding: channels by name.
        values: the layer's own rows, such as guide lines; by default those of ``data`` that are not hidden.
        data: the name of the shared rows.
        where: an expression that selects points.
        more: other properties of the layer.
    """
    if values:
        return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding} | more
    filters = [{"filter": "indexof(hidden, datum.implementation) < 0"}, *([{"filter": where}] if where else [])]
    transform = [*filters, *more.pop("transform", ())]
    return {"data": {"name": data}, "transform": transform, "mark": mark, "encoding": encoding} | more


def spans(encoding: Spec) -> Spec:
    """Return rules from the low to the high end of each point that has both."""
    rule = {"type": "rule", "strokeWidth": 1.75}
    return layer(rule, encoding, where="isValid(datum.low) && isValid(datum.high)")


FOCUS: Spec = {
    "condition": {"test": "focus == '' || datum.implementation == focus", "value": 1},
    "value": 0.15,
}
"""Opacity: 1 for the implementation in focus, or for all if none is."""

TOOLTIP: list[Spec] = [
    {"field": "implementation", "type": "nominal"},
    {"field": "at", "type": "nominal"},
    {"field": "text", "type": "nominal", "title": "value"},
]
"""The tooltip of a mark."""


def log_scale(low: float, high: float) -> Spec:
    """Return a logarithmic scale over exactly this range."""
    return {"type": "log", "domain": [low, high], "nice": False}


def axis_of(ticks: Sequence[float], label: str) -> Spec:
    """Return an axis with these ticks, labelled by a Vega expression."""
    return {"values": list(ticks), "labelExpr": label}


def names_down(names: Sequence[str]) -> Spec:
    """Return a channel with implementations one below the other."""
    axis = {"labelLimit": 150, "grid": True, "ticks": False}
    return {"field": "implementation", "type": "nominal", "title": None, "sort": list(names), "axis": axis}


def legend_of(names: Sequence[str]) -> Spec:
    """Return a legend below the plot, with as many columns as fit."""
    spare = WIDER * max(map(len, names))
    return {"orient": "bottom", "columns": legend_columns(names), "columnPadding": 12 + spare, "title": None}


def legend_columns(names: Sequence[str]) -> int:
    """Return the number of legend columns that fit below the plot."""
    return max(1, min(4, int(WIDTH // (36 + 7.2 * max(map(len, names))))))


def legend_height(names: Sequence[str]) -> float:
    """Return the height of the legend in pixels."""
    return 18 * -(-len(names) // legend_columns(names))


def colour(marks: Mapping[str, Mark], names: Sequence[str], legend: Spec | None) -> Spec:
    """Return the colour channel of implementations."""
    scale = {"domain": list(names), "range": [marks[name].colour for name in names]}
    return {"field": "implementation", "type": "nominal", "scale": scale, "legend": legend}


def shape(marks: Mapping[str, Mark], names: Sequence[str], legend: Spec | None) -> Spec:
    """Return the shape channel of implementations; only for points, as Vega adds points to every line with a shape."""
    scale = {"domain": list(names), "range": [marks[name].shape for name in names]}
    return {"field": "implementation", "type": "nominal", "scale": scale, "legend": legend}


def drawn(
    layers: Sequence[Spec],
    points: Sequence[Row],
    height: float,
    *,
    left: float = 0,
    right: float = 0,
    ends: Sequence[Row] = (),
) -> Drawing:
    """Return a drawing of these layers.

    Args:
        layers: all layers of the chart.
        points: the rows that layers show.
        height: total height in pixels.
        left: pixels that are kept free to the left of the plot's axis.
        right: pixels that are kept free to the right of the plot.
        ends: rows of the curves' names.
    """
    plain = {"labelFont": FONT, "titleFont": FONT, "labelColor": LIGHT["chart-text"], "titleColor": LIGHT["chart-text"]}
    config = {
        "font": FONT,
        "aria": False,
        "view": {"stroke": None},
        "axis": plain
        | {
            "labelFontSize": 11,
            "labelSeparation": 8,
            "labelFlush": False,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "gridColor": LIGHT["chart-grid"],
            "domainColor": LIGHT["chart-axis"],
            "tickColor": LIGHT["chart-axis"],
            "tickSize": 4,
        },
        "legend": plain
        | {
            "labelFontSize": 11,
            "labelLimit": 165,
            "symbolSize": 60,
            "rowPadding": 3,
            "offset": 8,
            "symbolOpacity": 1,
        },
    }
    return Drawing(
        spec={
            "$schema": SCHEMA,
            "params": [{"name": "hidden", "value": []}, {"name": "focus", "value": ""}],
            "width": WIDTH,
            "height": height,
            "padding": {"left": 4 + left, "right": 4 + right, "top": 4, "bottom": 4},
            "background": "transparent",
            "autosize": {"type": "fit", "contains": "padding"},
            "layer": list(layers),
            "datasets": {POINTS: list(points), **({ENDS: list(ends)} if ends else {})},
            "config": config,
        }
    )


def _slim(svg: str) -> str:
    """Halve the size of an SVG without changing the picture.

    Roles have no use inside of an image, frames without a colour are invisible, two decimals of a pixel are enough, and
    the font is named once.
    """
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)"[^>]*/>', "", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    return svg.replace("<svg ", f'<svg font-family="{FONT}" ', 1)
