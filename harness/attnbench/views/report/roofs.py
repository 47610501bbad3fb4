"""Charts of models: exponents with their intervals, and achieved rates below the machine's roofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.report.drawing import (
    RATIO_LABEL,
    WIDER,
    Drawing,
    axis_of,
    colour,
    drawn,
    in_focus,
    inline,
    log_scale,
    names_down,
    shape,
    shown,
    tooltip,
)
from attnbench.views.report.style import LIGHT
from attnbench.views.report.ticks import decimal_ticks, padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.style import Mark

_LINE = 24
_PLOT_HEIGHT = 240
_LEGEND_LINE = 18
_RATE_LABEL = (
    "datum.value >= 1 ? format(datum.value, '~g') + ' TFLOP/s' : format(datum.value * 1000, '~g') + ' GFLOP/s'"
)


def exponents(rows: Sequence[Row], marks: Mapping[str, Mark], what: str) -> Drawing:
    """The exponent of each implementation with its interval, and guides at 1 and 2.

    Args:
        rows: ``implementation``, ``value``, ``low``, ``high``, ``at`` and ``text``.
        marks: colour and shape of each implementation.
        what: time or memory.
    """
    import altair as alt

    names = [row["implementation"] for row in sorted(rows, key=lambda row: (row["value"], row["implementation"]))]
    low, high = min(0.8, *(row["low"] for row in rows)), max(2.2, *(row["high"] for row in rows))
    scale = alt.Scale(domain=[max(low, 0.0) - 0.05, min(high, 4.0) + 0.05], nice=False, clamp=True)
    guides = alt.Chart(inline([{"value": 1}, {"value": 2}])).mark_rule(color=LIGHT["chart-guide"], strokeDash=[3, 4])
    base = shown(rows).encode(y=names_down(names), color=colour(marks, names, None), tooltip=tooltip())
    title = f"exponent of {what} (dashed: n, n²)"
    layers = [
        guides.encode(x=alt.X("value:Q", scale=scale)),
        base.mark_rule(strokeWidth=1.75).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q"),
        base.mark_point(filled=True, size=60).encode(
            x=alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5)), shape=shape(marks, names, None)
        ),
    ]
    return drawn(alt.layer(*layers), 56 + _LINE * len(names), left=WIDER * max(map(len, names)))


def roofline(
    rows: Sequence[Row], marks: Mapping[str, Mark], *, peak_tflops: float, peak_gbytes_per_s: float
) -> Drawing:
    """Achieved rate against arithmetic intensity, below the roofs that were measured (Williams et al. 2009).

    Args:
        rows: ``implementation``, ``intensity`` (FLOP / byte), ``value`` (TFLOP/s), ``at`` and ``text``.
        marks: colour and shape of each implementation.
        peak_tflops: of a matrix product in the dtype.
        peak_gbytes_per_s: of copying memory.
    """
    import altair as alt

    ridge = peak_tflops * 1e3 / peak_gbytes_per_s
    intensities, rates = [row["intensity"] for row in rows], [row["value"] for row in rows]
    left, right = padded(min(*intensities, ridge), max(*intensities, ridge), 1.6)
    bottom, top = padded(min(rates), max(*rates, peak_tflops), 1.6)
    names = sorted({row["implementation"] for row in rows})
    x = alt.X(
        "intensity:Q",
        title="FLOP for each byte",
        scale=log_scale(left, right),
        axis=axis_of(decimal_ticks(left, right), RATIO_LABEL),
    )
    y = alt.Y(
        "value:Q",
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
    legend = alt.Legend(orient="bottom", columns=2, columnPadding=12 + WIDER * max(map(len, names)), title=None)
    base = shown(rows).encode(
        x=x, y=y, color=colour(marks, names, legend), opacity=in_focus(), tooltip=tooltip()
    )  # fmt: skip
    layers = [
        alt.Chart(inline(roof)).mark_line(color=LIGHT["chart-guide"], strokeWidth=2).encode(x=x, y=y),
        base.mark_point(filled=True, size=48).encode(shape=shape(marks, names, legend)),
    ]
    return drawn(alt.layer(*layers), _PLOT_HEIGHT + _LEGEND_LINE * -(-len(names) // 2))
