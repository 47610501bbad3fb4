"""The colour and shape of each implementation, the same in every chart of every report."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
import zlib
from importlib import resources
from typing import TYPE_CHECKING

from attnbench.views.report.charts.style import COLOURS, GREYS, SERIES_LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MARKS = "marks.toml"
"""The file next to the implementations that assigns colours."""

SHAPES = {
    "circle": "M10 6.4a3.6 3.6 0 1 0 0 7.2a3.6 3.6 0 1 0 0-7.2Z",
    "square": "M6.8 6.8h6.4v6.4h-6.4Z",
    "triangle-up": "M10 6l4 7.2h-8Z",
    "diamond": "M10 5.4l4.2 4.6l-4.2 4.6l-4.2-4.6Z",
    "triangle-down": "M10 14l4-7.2h-8Z",
    "cross": "M8.6 6h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6Z",
    "triangle-right": "M14 10l-7.2 4v-8Z",
    "triangle-left": "M6 10l7.2 4v-8Z",
}
"""Vega's names of shapes, with the paths that the page draws in a box of 20 by 20."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """The colour and shape of an implementation."""

    series: int
    """Index of one of the theme's colours; the last ones are grey."""
    shape: str

    @property
    def colour(self) -> str:
        """The colour in the light theme, in which charts are drawn."""
        return SERIES_LIGHT[self.series]

    @property
    def path(self) -> str:
        """The shape as an SVG path in a box of 20 by 20."""
        return SHAPES[self.shape]


def marks_of(names: Iterable[str]) -> dict[str, Mark]:
    """Return a mark for each name. With more names than colours, colours repeat with other shapes.

    A name has the colour that ``marks.toml`` assigns, or one that follows from the name alone. If two names share a
    colour, the later one takes a free colour instead.
    """
    grey, lines = _assigned()
    wanted = dict(zip(grey, GREYS, strict=False))
    wanted |= {name: series for series, line in zip(COLOURS, lines, strict=False) for name in line}
    order = {name: place for place, name in enumerate(itertools.chain(grey, *itertools.zip_longest(*lines)))}
    marks: dict[str, Mark] = {}
    taken: list[int] = []
    for name in sorted(set(names), key=lambda name: (order.get(name, len(order)), name)):
        first = wanted.get(name)
        series = _series(_of_name(name, len(lines)) if first is None else first, taken)
        shape = tuple(SHAPES)[((*COLOURS, *GREYS).index(series) + taken.count(series)) % len(SHAPES)]
        marks[name] = Mark(series=series, shape=shape)
        taken.append(series)
    return dict(sorted(marks.items()))


def _of_name(name: str, assigned: int) -> int:
    """Return one of the colours that are not assigned to any name, chosen by the name's checksum."""
    return COLOURS[assigned + zlib.crc32(name.encode()) % (len(COLOURS) - assigned)]


def _series(wanted: int, taken: Sequence[int]) -> int:
    """Return the wanted colour, or the nearest unused one before it, or the one that is used least."""
    if wanted in GREYS:
        return wanted
    place = COLOURS.index(wanted)
    return min((COLOURS[place - step] for step in range(len(COLOURS))), key=taken.count)


@functools.cache
def _assigned() -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Read the names with greys, and the names of each colour."""
    found = tomllib.loads(resources.files("attnbench.implementations").joinpath(MARKS).read_text(encoding="utf-8"))
    grey, colours = tuple(found["grey"]), tuple(map(tuple, found["colours"]))
    assert len(grey) <= len(GREYS), "each grey is that of one implementation"
    assert len(colours) < len(COLOURS), "some colours are for those who are not listed"
    return grey, colours
