"""The parts that all charts share: a Vega-Lite specification, drawn as SVG without a browser.

Specifications are written down as they are. Altair, which would write them, takes half a second to import and a tenth
of one for each chart of ten curves, most of it for copies.

A specification has two parameters that the page's script sets, the same in all charts: the implementations that are
``hidden``, and the one that has the ``focus``.
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
"""Vega-Lite, or a part of it."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH = 460
POINTS = "points"
"""The name of a drawing's data in its specification; all layers share them."""
ENDS = "ends"
"""The name of the data of the curves' names."""
WIDER = 1.2
"""Pixels by which a letter may be wider in the page's font than in the one that Vega measures with."""

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
    """Vega-Lite, its data included."""

    @functools.cached_property
    def svg(self) -> str:
        """Drawn without a browser."""
        import vl_convert

        return _slim(vl_convert.vegalite_to_svg(self.spec))


def quantity(field: str, **more: Any) -> Spec:
    """A channel of numbers."""
    return {"field": field, "type": "quantitative"} | more


def layer(
    mark: Spec, encoding: Spec, *, values: Sequence[Row] = (), data: str = POINTS, where: str = "", **more: Any
) -> Spec:
    """One layer of a chart: a mark and its channels.

    Args:
        mark: Vega-Lite's, with its ``type``.
        encoding: a channel by name.
        values: rows of its own, such as guide lines; default those of ``data`` that are not hidden.
        data: the name of the rows.
        where: an expression that a point has to fulfil.
        more: other properties of the layer.
    """
    if values:
        return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding} | more
    filters = [{"filter": "indexof(hidden, datum.implementation) < 0"}, *([{"filter": where}] if where else [])]
    transform = [*filters, *more.pop("transform", ())]
    return {"data": {"name": data}, "transform": transform, "mark": mark, "encoding": encoding} | more


def spans(encoding: Spec) -> Spec:
    """Rules from the low to the high end, of those points which have both."""
    rule = {"type": "rule", "strokeWidth": 1.75}
    return layer(rule, encoding, where="isValid(datum.low) && isValid(datum.high)")


FOCUS: Spec = {
    "condition": {"test": "focus == '' || datum.implementation == focus", "value": 1},
    "value": 0.15,
}
"""Opacity: all curves where none has the focus, else that one."""

TOOLTIP: list[Spec] = [
    {"field": "implementation", "type": "nominal"},
    {"field": "at", "type": "nominal"},
    {"field": "text", "type": "nominal", "title": "value"},
]
"""The tooltip of a mark."""


def log_scale(low: float, high: float) -> Spec:
    """A logarithmic scale over exactly this range."""
    return {"type": "log", "domain": [low, high], "nice": False}


def axis_of(ticks: Sequence[float], label: str) -> Spec:
    """An axis with these ticks, which read as the expression says."""
    return {"values": list(ticks), "labelExpr": label}


def names_down(names: Sequence[str]) -> Spec:
    """Implementations one below the other."""
    axis = {"labelLimit": 150, "grid": True, "ticks": False}
    return {"field": "implementation", "type": "nominal", "title": None, "sort": list(names), "axis": axis}


def legend_of(names: Sequence[str]) -> Spec:
    """Below the plot, in as many columns as there is room for."""
    spare = WIDER * max(map(len, names))
    return {"orient": "bottom", "columns": legend_columns(names), "columnPadding": 12 + spare, "title": None}


def legend_columns(names: Sequence[str]) -> int:
    """The number of columns that fit below the plot."""
    return max(1, min(4, int(WIDTH // (36 + 7.2 * max(map(len, names))))))


def legend_height(names: Sequence[str]) -> float:
    """Pixels that the legend takes."""
    return 18 * -(-len(names) // legend_columns(names))


def colour(marks: Mapping[str, Mark], names: Sequence[str], legend: Spec | None) -> Spec:
    """The colour of each implementation."""
    scale = {"domain": list(names), "range": [marks[name].colour for name in names]}
    return {"field": "implementation", "type": "nominal", "scale": scale, "legend": legend}


def shape(marks: Mapping[str, Mark], names: Sequence[str], legend: Spec | None) -> Spec:
    """For points alone: Vega puts a point on every line that has a shape."""
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
    """A drawing.

    Args:
        layers: all of them.
        points: the rows that layers show.
        height: pixels, with everything.
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
    """The same picture in half of the bytes.

    Inside of an image nothing has a role; frames without a colour are invisible; a hundredth of a pixel is enough; one
    font is named once.
    """
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)"[^>]*/>', "", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    return svg.replace("<svg ", f'<svg font-family="{FONT}" ', 1)
