"""Plots of characters: each point is in its place, and none is lost where curves meet."""

from __future__ import annotations

from attnbench.units import duration
from attnbench.views.answer.plot import log_plot

LENGTHS = (128, 256, 512, 1024)


def columns_of(sign: str, text: str) -> list[tuple[int, int]]:
    """Return (line, column) of each letter in the plot, from its upper left corner."""
    lines = text.splitlines()
    plot = lines[: next(i for i, line in enumerate(lines) if "└" in line)]
    edge = max(line.find("│") for line in plot)
    return [(row, line.index(sign) - edge) for row, line in enumerate(plot) if sign in line]


def test_a_power_law_is_a_straight_line_from_corner_to_corner() -> None:
    text = log_plot({"a/a": [(n, float(n) ** 2) for n in LENGTHS]}, duration, width=30, height=10)
    assert columns_of("A", text) == [(0, 31), (3, 21), (6, 11), (9, 1)]
    assert "A a/a" in text
    assert text.splitlines()[0].startswith("1.05 ms ┤")
    assert all(word in text for word in ("128", "256", "512", "1k"))


def test_curves_that_meet_stand_side_by_side() -> None:
    same = [(n, float(n)) for n in LENGTHS]
    text = log_plot({"a/a": same, "b/b": same}, duration)
    assert text.count("AB") == len(LENGTHS)


def test_one_length_is_no_plot() -> None:
    assert log_plot({"a/a": [(128, 1.0)]}, duration) == ""


def test_values_of_zero_have_no_place_and_the_27th_curve_is_counted() -> None:
    curves = {f"a/{i:02}": [(128, 1.0), (256, 0.0), (512, 3.0)] for i in range(27)}
    assert log_plot(curves, duration).endswith("and 1 more")
