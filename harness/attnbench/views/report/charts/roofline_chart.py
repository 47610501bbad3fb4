"""Charts of models: exponents with their intervals, and achieved rates below the machine's roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.report.charts.drawing import (
    FOCUS,
    RATIO_LABEL,
    TOOLTIP,
    WIDER,
    Drawing,
    axis_of,
    colour,
    drawn,
    layer,
    legend_height,
    legend_of,
    log_scale,
    names_down,
    quantity,
    shape,
)
from attnbench.views.report.charts.style import LIGHT
from attnbench.views.report.charts.ticks import decimal_ticks, padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.charts.marks import Mark

_LINE = 24
_PLOT_HEIGHT, _AXIS = 230, 52
_RATE_LABEL = (
    "datum.value >= 1 ? format(datum.value, '~g') + ' TFLOP/s' : format(datum.value * 1000, '~g') + ' GFLOP/s'"
)


def exponents(rows: Sequence[Row], marks: Mapping[str, Mark], what: str) -> Drawing:
    """Draw each implementation's exponent with its interval, and guides at 1 and 2.

    Rows have ``implementation``, ``value``, ``low``, ``high``, ``at`` and ``text``.
    """
    names = [row["implementation"] for row in sorted(rows, key=lambda row: (row["value"], row["implementation"]))]
    low, high = min(0.8, *(row["low"] for row in rows)), max(2.2, *(row["high"] for row in rows))
    scale = {"domain": [max(low, 0.0) - 0.05, min(high, 4.0) + 0.05], "nice": False, "clamp": True}
    guide = {"type": "rule", "color": LIGHT["chart-guide"], "strokeDash": [3, 4]}
    base = {"y": names_down(names), "color": colour(marks, names, None), "tooltip": TOOLTIP}
    title = f"exponent of {what} (dashed: n, n²)"
    layers = [
        layer(guide, {"x": quantity("value", scale=scale)}, values=[{"value": 1}, {"value": 2}]),
        layer(
            {"type": "rule", "strokeWidth": 1.75},
            base | {"x": quantity("low", title=title, scale=scale), "x2": {"field": "high"}},
        ),
        layer(
            {"type": "point", "filled": True, "size": 60, "opacity": 1},
            base
            | {
                "x": quantity("value", title=title, scale=scale, axis={"tickCount": 5}),
                "shape": shape(marks, names, None),
            },
        ),
    ]
    return drawn(layers, rows, 56 + _LINE * len(names), left=WIDER * max(map(len, names)))


def roofline(
    rows: Sequence[Row], marks: Mapping[str, Mark], *, peak_tflops: float, peak_gbytes_per_s: float
) -> Drawing:
    """Draw the achieved rate against arithmetic intensity, below the measured roofs (Williams et al. 2009).

    Rows have ``implementation``, ``intensity`` (FLOP / byte), ``value`` (TFLOP/s), ``at`` and ``text``.
    """
    ridge = peak_tflops * 1e3 / peak_gbytes_per_s
    intensities, rates = [row["intensity"] for row in rows], [row["value"] for row in rows]
    left, right = padded(min(*intensities, ridge), max(*intensities, ridge), 1.6)
    bottom, top = padded(min(rates), max(*rates, peak_tflops), 1.6)
    names = sorted({row["implementation"] for row in rows})
    x = quantity(
        "intensity",
        title="FLOP for each byte",
        scale=log_scale(left, right),
        axis=axis_of(decimal_ticks(left, right), RATIO_LABEL),
    )
    y = quantity(
        "value",
        title="achieved rate",
        scale=log_scale(bottom, top),
        axis=axis_of(decimal_ticks(bottom, top), _RATE_LABEL),
    )
    start = max(left, bottom * 1e3 / peak_gbytes_per_s)
    roof = [
        {"intensity": start, "value": start * peak_gbytes_per_s / 1e3},
        {"intensity": ridge, "value": peak_tflops},
        {"intensity": right, "value": peak_tflops},
    ]
    legend = legend_of(names)
    layers = [
        layer({"type": "line", "color": LIGHT["chart-guide"], "strokeWidth": 2}, {"x": x, "y": y}, values=roof),
        layer(
            {"type": "point", "filled": True, "size": 48},
            {
                "x": x,
                "y": y,
                "color": colour(marks, names, legend),
                "shape": shape(marks, names, legend),
                "opacity": FOCUS,
                "tooltip": TOOLTIP,
            },
        ),
    ]
    return drawn(layers, rows, _PLOT_HEIGHT + _AXIS + legend_height(names))
