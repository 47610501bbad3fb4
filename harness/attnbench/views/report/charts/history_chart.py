"""A chart of one cell over commits: its ratio to the anchor, or its memory, by segment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnbench.views.report.charts.drawing import (
    BYTES_LABEL,
    TOOLTIP,
    Drawing,
    Spec,
    colour,
    drawn,
    layer,
    quantity,
    spans,
)
from attnbench.views.report.charts.style import LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.charts.marks import Mark

_HEIGHT = 170
_MOST_TICKS = 8


def over_commits(
    rows: Sequence[Row],
    names: Sequence[str],
    marks: Mapping[str, Mark],
    *,
    borders: Sequence[int],
    changes: Sequence[int],
    is_time: bool,
) -> Drawing:
    """Draw a cell over commits, with dashed lines at the borders of segments and full lines at confirmed changes.

    Args:
        rows: ``index`` of the revision, ``implementation``, ``segment``, ``value`` (ratio or bytes), ``low`` and
            ``high`` (or None), ``at`` and ``text``.
        names: short hashes by index.
        marks: colour and shape of each implementation.
        borders: index of the first revision of each segment except the first.
        changes: index of each revision with a confirmed change of the cell.
        is_time: whether values are ratios; else they are bytes.
    """
    step = -(-len(names) // _MOST_TICKS)
    ticks = {"values": list(range(0, len(names), step)), "labelExpr": f"{json.dumps(list(names))}[datum.value]"}
    across = {"domain": [-0.5, len(names) - 0.5], "nice": False}
    x = quantity("index", title=None, scale=across, axis=ticks)
    plain = quantity("index", scale=across)
    axis = {"tickCount": 5} if is_time else {"tickCount": 5, "labelExpr": BYTES_LABEL}
    vertical: Spec = {
        "title": "time over the anchor's" if is_time else "peak memory of one call",
        "scale": {"zero": False, "nice": True},
        "axis": axis,
    }
    who = sorted({row["implementation"] for row in rows})
    base = {"x": x, "color": colour(marks, who, None), "tooltip": TOOLTIP}
    y = quantity("value", **vertical)
    detail = {"field": "segment", "type": "nominal"}
    layers = [
        *_upright(borders, plain, {"strokeDash": [3, 4], "color": LIGHT["chart-guide"], "strokeWidth": 1}),
        *_upright(changes, plain, {"color": LIGHT["mark"], "strokeWidth": 1.5}),
        layer({"type": "line", "strokeWidth": 1.5}, base | {"y": y, "detail": detail}),
        spans(base | {"y": quantity("low", **vertical), "y2": {"field": "high"}}),
        layer({"type": "point", "filled": True, "size": 34}, base | {"y": y}),
    ]
    return drawn(layers, rows, _HEIGHT)


def _upright(places: Sequence[int], x: Spec, look: Spec) -> list[Spec]:
    """Return vertical lines half a step before these revisions, between each and the one before."""
    values = [{"index": place - 0.5} for place in places]
    return [layer({"type": "rule", **look}, {"x": x}, values=values)] if values else []
