"""Colours and marks, one place for charts and page.

A chart is drawn once, in the light theme's colours. On the page each of them is the name of a role: style rules map it
to the theme's own colour (``svg [fill="#2b50d8"] { fill: var(--series-0) }``).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LIGHT = {
    "page": "#fcfcfa",
    "panel": "#f3f4f0",
    "ink": "#1d2125",
    "muted": "#565d64",
    "rule": "#d8dbd6",
    "link": "#1f4fa3",
    "mark": "#9a4a00",
    "chart-text": "#3a4046",
    "chart-grid": "#e2e5e0",
    "chart-axis": "#8d9399",
    "chart-guide": "#6a7076",
    "good-1": "#e8f0fb",
    "good-2": "#cfe0f7",
    "good-3": "#a9c8f0",
    "good-4": "#7fb0ea",
    "bad-1": "#fbefe3",
    "bad-2": "#f7dcc3",
    "bad-3": "#f2c193",
    "bad-4": "#eaa263",
}
DARK = {
    "page": "#14171a",
    "panel": "#1c2024",
    "ink": "#e4e2dd",
    "muted": "#a2a7ac",
    "rule": "#343a40",
    "link": "#8fb4f2",
    "mark": "#f0a868",
    "chart-text": "#c6c9cb",
    "chart-grid": "#2a2f34",
    "chart-axis": "#6d747b",
    "chart-guide": "#979da3",
    "good-1": "#1b2a3d",
    "good-2": "#1f3a5c",
    "good-3": "#23497a",
    "good-4": "#2a5898",
    "bad-1": "#33261a",
    "bad-2": "#4a331c",
    "bad-3": "#64431d",
    "bad-4": "#7d521e",
}

# Any two of a theme's series are at least 16 apart in CIELAB, for normal sight and for the three kinds of
# dichromacy (simulated after Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009); shapes tell them apart besides.
SERIES_LIGHT = ("#2b50d8", "#6b3410", "#1a9659", "#a85bd8", "#a08a0c", "#123f5e", "#d3649a", "#5d5757")
SERIES_DARK = ("#b4c8fa", "#ef8a1f", "#5fe3b8", "#b24ce6", "#f3d58a", "#3a86b4", "#e2364a", "#948a8a")
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
"""Vega's shapes, and how the page draws them, in a box of 20 by 20."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """How an implementation is drawn."""

    series: int
    """Which of the eight colours."""
    shape: str

    @property
    def colour(self) -> str:
        """In the light theme, which is the one that charts are drawn in."""
        return SERIES_LIGHT[self.series]

    @property
    def path(self) -> str:
        """The shape as an SVG path in a box of 20 by 20."""
        return SHAPES[self.shape]


def marks_of(implementations: Iterable[str]) -> dict[str, Mark]:
    """A mark for each name, the same in all charts of a page. Beyond eight, colours come back with other shapes."""
    shapes = tuple(SHAPES)
    return {
        name: Mark(series=index % 8, shape=shapes[(index + index // 8) % 8])
        for index, name in enumerate(sorted(set(implementations)))
    }
