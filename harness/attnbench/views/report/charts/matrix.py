"""Matrices as charts: one field for each number, with axes and a colour scale."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING

from attnbench.units import number
from attnbench.views.report.charts.png import colour_of, png
from attnbench.views.report.charts.style import FONT, LIGHT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WIDE, _LEAST, _MOST = 300, 60, 420
"""Width of the plot, and the bounds of its height, in pixels."""
_LEFT, _TOP, _RIGHT, _BELOW = 56, 8, 94, 40
_BAR, _STRIPS = 12, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """The axis along one side of a matrix."""

    title: str
    size: int
    """The number of queries, keys or features; a field of the picture can cover several."""

    @property
    def ticks(self) -> list[int]:
        """The first, the last and those at the quarters, counted from 0."""
        return sorted({round(share * (self.size - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})

    def place(self, tick: int) -> float:
        """Return the middle of a tick's field, from 0 to 1."""
        return (tick + 0.5) / self.size


def matrix(plane: NDArray[np.floating], down: Axis, across: Axis, *, alarm: bool = False) -> str:
    """Draw a heat map of a matrix as SVG; opacity is the square root of value over maximum.

    Args:
        plane: non-negative numbers, shape (rows, columns).
        down: the axis of the rows.
        across: the axis of the columns.
        alarm: whether to use the colour of errors.
    """
    tall = min(max(_WIDE * down.size / across.size, _LEAST), _MOST)
    picture = base64.b64encode(png(plane, alarm=alarm)).decode()
    finite = plane[plane < float("inf")]
    top = float(finite.max(initial=0.0))
    width, height = _LEFT + _WIDE + _RIGHT, _TOP + tall + _BELOW
    bar = _LEFT + _WIDE + 16
    ink = "#{:02x}{:02x}{:02x}".format(*colour_of(alarm=alarm))
    frame = f'fill="none" stroke="{LIGHT["chart-axis"]}"'
    size = f'width="{width}" height="{height:g}" viewBox="0 0 {width} {height:g}"'
    box = f'x="{_LEFT}" y="{_TOP}" width="{_WIDE}" height="{tall:g}"'
    pixels = 'preserveAspectRatio="none" style="image-rendering: pixelated"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" font-size="11px">',
        f'<image {box} {pixels} href="data:image/png;base64,{picture}"/>',
        f"<rect {box} {frame}/>",
    ]
    parts += [_text(_LEFT + _WIDE * across.place(n), _TOP + tall + 14, f"{n:,}", "middle") for n in across.ticks]
    parts += [_text(_LEFT - 6, _TOP + tall * down.place(n) + 4, f"{n:,}", "end") for n in _apart(down, tall)]
    parts.append(_text(_LEFT + _WIDE / 2, height - 8, across.title, "middle"))
    middle = _TOP + tall / 2
    parts.append(_text(12, middle, down.title, "middle", f' transform="rotate(-90 12 {middle:g})"'))
    # Each strip has the opacity of the middle of its part of the scale.
    for strip in range(_STRIPS):
        dense = 1 - (strip + 0.5) / _STRIPS
        y = _TOP + tall * strip / _STRIPS
        parts.append(
            f'<rect x="{bar}" y="{y:g}" width="{_BAR}" height="{tall / _STRIPS:g}" fill="{ink}" opacity="{dense:g}"/>'
        )
    parts.append(f'<rect x="{bar}" y="{_TOP}" width="{_BAR}" height="{tall:g}" {frame}/>')
    for dense in (1.0, 0.5, 0.0):
        y = min(max(_TOP + tall * (1 - dense) + 4, _TOP + 9), _TOP + tall)
        parts.append(_text(bar + _BAR + 5, y, number(top * dense**2), "start"))
    return "\n".join([*parts, "</svg>"])


def _apart(axis: Axis, pixels: float) -> list[int]:
    """Return an axis's ticks, or only the first and the last if there is no room for all."""
    ticks = axis.ticks
    return ticks if pixels >= 16 * len(ticks) else sorted({ticks[0], ticks[-1]})


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{LIGHT["chart-text"]}"{more}>{text}</text>'
