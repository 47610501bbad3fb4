"""The colour and pattern of each phase, the same on all pages."""

from __future__ import annotations

from attnbench.profiling.phases import TITLES, Phase
from attnbench.views.report.charts.marks import Mark
from attnbench.views.report.charts.style import SERIES_DARK, SERIES_LIGHT

_SERIES = {
    Phase.QK: 0,
    Phase.EXP: 4,
    Phase.SOFTMAX: 2,
    Phase.PV: 6,
    Phase.PRODUCTS: 0,
    Phase.GRADIENTS: 3,
    Phase.MASK: 1,
    Phase.COPIES: 5,
    Phase.MEMORY: 5,
    Phase.WAITING: 7,
    Phase.DISPATCH: 3,
    Phase.OTHER: 7,
}
"""Only eight colours are easy to tell apart, so some phases share one; the second of them is striped."""
STRIPED = (Phase.PRODUCTS, Phase.MEMORY, Phase.WAITING, Phase.DISPATCH)
SQUARE, STRIPES = "M-1-1H1V1H-1Z", "M-1-1H-0.5V1H-1ZM-0.25-1H0.25V1H-0.25ZM0.5-1H1V1H0.5Z"
"""Shapes for Vega's legends."""


class PhaseMark(Mark):
    """A square in the phase's colour, striped or not."""

    @property
    def path(self) -> str:
        """The shape as an SVG path in a box of 20 by 20."""
        return (
            "M5 5h10v10h-10Z" if self.shape == "square" else "M5 5h2.6v10h-2.6ZM8.7 5h2.6v10h-2.6ZM12.4 5h2.6v10h-2.6Z"
        )


MARKS = {
    TITLES[phase]: PhaseMark(series=series, shape="stripes" if phase in STRIPED else "square")
    for phase, series in _SERIES.items()
}


def style_of_phases() -> str:
    """Style rules for both themes: ``.qk`` fills with the phase's colour."""
    themes = [
        "".join(f".{phase} {{ fill: {colours[series]}; }} " for phase, series in _SERIES.items())
        for colours in (SERIES_LIGHT, SERIES_DARK)
    ]
    return f"{themes[0]}\n@media (prefers-color-scheme: dark) {{ {themes[1]} }}"
