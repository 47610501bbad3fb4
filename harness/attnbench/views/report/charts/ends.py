"""The names of curves, written next to their last points."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from attnbench.units import length
from attnbench.views.report.charts.drawing import ENDS, FOCUS, Spec, layer, quantity
from attnbench.views.report.charts.style import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.document import Row

LINE = 14
"""Vertical distance between two names, in pixels."""
_SYMBOL = 14
"""Distance from the last point to the symbol before the name, in pixels."""


def end_rows(rows: Sequence[Row], low: float, high: float, height: float) -> list[Row]:
    """Place each curve's name as near to its last point as the other names allow.

    Args:
        rows: ``length``, ``implementation`` and ``value`` of each point.
        low: the value at the bottom of a logarithmic axis.
        high: the value at its top.
        height: pixels between them.

    Returns:
        Rows with ``implementation``, its ``name`` (with the last length if that is before the plot's edge), the
        ``length`` at the edge, ``value`` of the last point (``None`` if it is before the edge) and ``level``, the value
        at whose height the name is.
    """
    edge = max(row["length"] for row in rows)
    last = {row["implementation"]: row for row in sorted(rows, key=lambda row: row["length"])}
    ordered = sorted(last.values(), key=lambda row: (row["value"], row["implementation"]))
    levels = apart([math.log(row["value"] / low) for row in ordered], math.log(high / low), LINE / height)
    return [
        {
            "implementation": row["implementation"],
            "name": row["implementation"] + ("" if row["length"] == edge else f", to {length(row['length'])}"),
            "length": edge,
            "value": row["value"] if row["length"] == edge else None,
            "level": low * math.exp(level),
        }
        for row, level in zip(ordered, levels, strict=True)
    ]


def apart(wanted: Sequence[float], top: float, share: float) -> list[float]:
    """Move levels as little as possible so that no two are closer than a share of the height.

    Args:
        wanted: levels in ascending order.
        top: the height; levels stay between 0 and it as long as there is room.
        share: the least distance, as a share of the height.
    """
    gap = share * top
    upward = list(itertools.accumulate(wanted, lambda below, own: max(own, below + gap)))
    downward = list(itertools.accumulate(reversed(wanted), lambda above, own: min(own, above - gap)))[::-1]
    # Both lists keep the distance, so their mean does; then the highest and the lowest are moved back into the plot.
    middle = [(one + other) / 2 for one, other in zip(upward, downward, strict=True)]
    under = [min(level, top - gap * place) for place, level in enumerate(reversed(middle))][::-1]
    return [max(level, gap * place) for place, level in enumerate(under)]


def end_layers(x: Spec, vertical: Spec, coloured: Spec, shaped: Spec) -> list[Spec]:
    """Return layers with a line from each last point to the symbol and the name of its curve."""
    plain = {name: part for name, part in vertical.items() if name in ("scale", "title")}
    base = {"x": x, "y": quantity("level", **plain), "opacity": FOCUS}
    leader = {"type": "rule", "strokeWidth": 1, "xOffset": 4, "x2Offset": _SYMBOL - 5}
    ends = {"x2": {"field": "length"}, "y": quantity("value", **plain), "y2": {"field": "level"}}
    text = {"type": "text", "align": "left", "dx": _SYMBOL + 7, "fontSize": 11, "color": LIGHT["chart-text"]}
    return [
        layer(leader, base | ends | {"color": coloured}, data=ENDS, where="isValid(datum.value)"),
        layer(
            {"type": "point", "filled": True, "size": 48, "xOffset": _SYMBOL},
            base | {"color": coloured, "shape": shaped},
            data=ENDS,
        ),
        layer(text, base | {"text": {"field": "name", "type": "nominal"}}, data=ENDS),
    ]
