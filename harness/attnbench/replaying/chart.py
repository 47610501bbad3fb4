"""Charts of a replay: the time of the model's attention on each implementation, and the peak memory of a call."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.units import shown, times
from attnbench.untrusted.printable import in_one_line
from attnbench.views.columns import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.replaying.estimate import Replay
    from attnbench.views.document import Row
    from attnbench.views.estimates import Estimate

_MOST = 16
"""Largest number of implementations in a chart: the fastest."""


def require_chart(path: Path) -> None:
    """Raise unless charts can be written.

    Raises:
        UsageError: if the file is neither ``.svg`` nor ``.png``, its folder does not exist, or the extra is missing.
    """
    name = in_one_line(str(path))
    if path.suffix not in (".svg", ".png"):
        raise UsageError(f"a chart is an .svg or a .png, which {name} is not")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {in_one_line(str(path.parent))} for the chart")
    if importlib.util.find_spec("vl_convert") is None:
        raise UsageError("charts need vl_convert: pip install 'attnbench[report]'")


def write_charts(replay: Replay, path: Path) -> None:
    """Write the chart of times, and next to it the chart of memory as ``NAME-memory``.

    Raises:
        UsageError: as :func:`require_chart`.
        OSError: if it cannot be written.
    """
    require_chart(path)
    _write(_times(replay), path, "attention of the model", is_time=True)
    memory = _memory(replay)
    if memory:
        _write(memory, path.with_stem(f"{path.stem}-memory"), "largest peak of one call", is_time=False)


def _write(rows: Sequence[Row], path: Path, title: str, *, is_time: bool) -> None:
    import vl_convert

    from attnbench.views.report.charts.charts import dots
    from attnbench.views.report.charts.marks import marks_of

    svg = dots(rows, marks_of(row["implementation"] for row in rows), is_time=is_time, title=title).svg
    svg = svg.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)  # readable on a dark page, too
    if path.suffix == ".png":
        path.write_bytes(vl_convert.svg_to_png(svg, scale=2))
    else:
        path.write_text(svg, encoding="utf-8")


def _times(replay: Replay) -> list[Row]:
    own = replay.capture.attention_seconds
    rows = [_row(OWN, 1e9 * own, None, None, shown(own, "s"))]
    for total in replay.totals[:_MOST]:
        value, low, high = (None if x is None else 1e9 * x for x in _ends(total.attention))
        text = f"{shown(value, 'ns')}, {times(own / total.attention.value)}" if total.attention.value else ""
        rows.append(_row(total.implementation, value, low, high, text))
    return rows


def _memory(replay: Replay) -> list[Row]:
    known = [(total.implementation, total.peak_bytes) for total in replay.totals[:_MOST] if total.peak_bytes]
    return [_row(name, peak, None, None, shown(peak, "bytes")) for name, peak in known]


def _ends(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _row(name: str, value: float | None, low: float | None, high: float | None, text: str) -> Row:
    return {"implementation": name, "value": value, "low": low, "high": high, "text": text, "at": ""}
