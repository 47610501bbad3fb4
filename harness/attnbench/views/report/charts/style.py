"""Colours and fonts of charts and pages.

A chart is drawn once, in the light theme's colours. On the page each of these colours stands for a role, which style
rules map to the theme's own colour (``svg [fill="#2b50d8"] { fill: var(--series-0) }``).
"""

from __future__ import annotations

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

# Any two colours of a theme are at least 13 apart in CIELAB, for normal sight and for the three kinds of dichromacy
# (simulated after Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009); shapes distinguish them as well.
SERIES_LIGHT = (
    "#2b50d8", "#6b3410", "#1a9659", "#a85bd8", "#a08a0c", "#123f5e", "#d3649a", "#5d5757",
    "#a13e00", "#e66b68", "#6b90ca", "#e931b4", "#553c99", "#ed0e42", "#737373", "#868686", "#929292",
)  # fmt: skip
SERIES_DARK = (
    "#b4c8fa", "#ef8a1f", "#5fe3b8", "#b24ce6", "#f3d58a", "#3a86b4", "#e2364a", "#948a8a",
    "#967100", "#e19782", "#abf3f7", "#ec11ac", "#b79eff", "#e1f162", "#6f6f6f", "#ababab", "#c4c4c4",
)  # fmt: skip
GREYS = (7, 14, 15, 16)
"""Grey series, for implementations that others are measured against."""
COLOURS = (0, 2, 13, 3, 8, 4, 10, 6, 1, 9, 5, 12, 11)
"""The other series, those first that are easiest to tell apart."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
