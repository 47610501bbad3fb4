"""What all charts share: a Vega-Lite specification, drawn as SVG without a browser.

A specification has two parameters that the page's script sets, the same in all charts: the implementations that are
``hidden``, and the one that has the ``focus``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from attnbench.views.report.style import FONT, LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.style import Mark

WIDTH = 380
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

    svg: str
    spec: dict[str, Any]
    """Vega-Lite, its data included."""


def spans(base: Any) -> Any:
    """Rules from the low to the high end, of those rows which have both."""
    return base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(strokeWidth=1.75)


def shown(rows: Sequence[Row]) -> Any:
    """A chart of those rows whose implementation is not hidden."""
    import altair as alt

    return alt.Chart(inline(rows)).transform_filter("indexof(hidden, datum.implementation) < 0")


def in_focus() -> Any:
    """All curves where none has the focus, else that one."""
    import altair as alt

    return alt.condition("focus == '' || datum.implementation == focus", alt.value(1), alt.value(0.15))


def tooltip() -> list[Any]:
    """What is said of a mark that the pointer is on."""
    import altair as alt

    return [alt.Tooltip("implementation:N"), alt.Tooltip("at:N"), alt.Tooltip("text:N", title="value")]


def inline(rows: Sequence[Row]) -> dict[str, Any]:
    """Data within the specification."""
    return {"values": list(rows)}


def log_scale(low: float, high: float) -> Any:
    """A logarithmic scale over exactly this range."""
    import altair as alt

    return alt.Scale(type="log", domain=[low, high], nice=False)


def axis_of(ticks: Sequence[float], label: str) -> Any:
    """An axis with these ticks, which read as the expression says."""
    import altair as alt

    return alt.Axis(values=list(ticks), labelExpr=label)


def names_down(names: Sequence[str]) -> Any:
    """Implementations one below the other."""
    import altair as alt

    return alt.Y(
        "implementation:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=150, grid=True, ticks=False)
    )


def colour(marks: Mapping[str, Mark], names: Sequence[str], legend: Any) -> Any:
    """The colour of each implementation."""
    import altair as alt

    scale = alt.Scale(domain=list(names), range=[marks[name].colour for name in names])
    return alt.Color("implementation:N", scale=scale, legend=legend)


def shape(marks: Mapping[str, Mark], names: Sequence[str], legend: Any) -> Any:
    """For points alone: Vega puts a point on every line that has a shape."""
    import altair as alt

    scale = alt.Scale(domain=list(names), range=[marks[name].shape for name in names])
    return alt.Shape("implementation:N", scale=scale, legend=legend)


def drawn(chart: Any, height: int, left: float = 0) -> Drawing:
    """The chart, of so many pixels with everything; ``left`` of them kept free."""
    import altair as alt
    import vl_convert

    plain = {"labelFont": FONT, "titleFont": FONT, "labelColor": LIGHT["chart-text"], "titleColor": LIGHT["chart-text"]}
    finished = (
        chart.add_params(alt.param(name="hidden", value=[]), alt.param(name="focus", value=""))
        .properties(
            width=WIDTH,
            height=height,
            padding={"left": 4 + left, "right": 4, "top": 4, "bottom": 4},
            background="transparent",
            autosize={"type": "fit", "contains": "padding"},
        )
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
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
        )
        .configure_legend(
            **plain, labelFontSize=11, labelLimit=165, symbolSize=60, rowPadding=3, offset=8, symbolOpacity=1
        )
    )
    spec: dict[str, Any] = finished.to_dict(validate=False)
    return Drawing(svg=_slim(vl_convert.vegalite_to_svg(spec)), spec=spec)


def _slim(svg: str) -> str:
    """The same picture in half of the bytes.

    Inside of an image nothing has a role; frames without a colour are invisible; a hundredth of a pixel is enough; one
    font is named once.
    """
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)"[^>]*/>', "", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    return svg.replace("<svg ", f'<svg font-family="{FONT}" ', 1)
