"""Charts show every point with its interval on readable axes."""

from __future__ import annotations

import itertools
import math
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.views.report.charts import charts
from attnbench.views.report.charts.ends import LINE, apart
from attnbench.views.report.charts.marks import marks_of
from attnbench.views.report.charts.ticks import binary_ticks, decimal_ticks, length_ticks, padded

NAMES = ("a/a", "b/b")
MARKS = marks_of(NAMES)
SVG = "{http://www.w3.org/2000/svg}"


def rows(*lengths: int, power: float = 2.0) -> list[dict[str, Any]]:
    return [
        {
            "implementation": name,
            "length": n,
            "value": (i + 1) * 1e3 * n**power,
            "low": (i + 1) * 0.9e3 * n**power,
            "high": (i + 1) * 1.2e3 * n**power,
            "text": f"{n} units",
            "at": str(n),
        }
        for i, name in enumerate(NAMES)
        for n in lengths
    ]


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - drawn a moment ago


def marks_in(svg: str, kind: str) -> list[ET.Element]:
    """Return the marks of a kind in the plot itself, without those of axes and legends."""
    groups = parsed(svg).iter(f"{SVG}g")
    return [mark for g in groups if g.attrib.get("class", "").startswith(f"mark-{kind} role-mark") for mark in g]


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter(f"{SVG}text")]


def test_every_point_is_drawn_and_every_interval() -> None:
    svg = charts.time_by_length(rows(128, 256, 1024), "seqlen", MARKS).svg
    # One more line per curve leads from its last point to its name.
    assert len(marks_in(svg, "symbol")) == 6 + 2
    assert len(marks_in(svg, "rule")) == 6 + 2
    assert len(marks_in(svg, "line")) == 2


def test_a_point_without_an_interval_is_drawn_without_one() -> None:
    points = rows(128, 256)
    points[0]["low"] = points[0]["high"] = None
    svg = charts.time_by_length(points, "seqlen", MARKS).svg
    assert (len(marks_in(svg, "symbol")), len(marks_in(svg, "rule"))) == (4 + 2, 3 + 2)


def test_a_law_is_a_straight_line() -> None:
    svg = charts.time_by_length(rows(128, 256, 512, 1024), "seqlen", MARKS).svg
    for line in marks_in(svg, "line"):
        corners = [tuple(map(float, point.split(","))) for point in line.attrib["d"].lstrip("M").split("L")]
        slopes = {round((y1 - y0) / (x1 - x0), 2) for (x0, y0), (x1, y1) in itertools.pairwise(corners)}
        assert len(slopes) == 1


def test_a_curve_names_its_axes_its_lengths_and_its_implementations() -> None:
    found = texts(charts.time_by_length(rows(128, 256, 1024), "seqlen_kv", MARKS).svg)
    assert {"seqlen_kv", "time of one call", "128", "256", "1k", "a/a", "b/b"} <= set(found)


def test_the_names_at_the_ends_of_curves_stand_in_their_order_and_apart() -> None:
    points = [
        {**rows(128)[0], "implementation": f"a/{i:02}", "length": n, "value": 1e6 + i, "low": None, "high": None}
        for i in range(12)
        for n in (128, 256)
    ]
    svg = charts.time_by_length(points, "seqlen", marks_of({row["implementation"] for row in points})).svg
    found = {t.text: float(t.attrib["transform"].split(",")[1].rstrip(")")) for t in marks_in(svg, "text")}
    heights = [found[name] for name in sorted(map(str, found), reverse=True)]
    assert len(heights) == 12
    assert min(below - above for above, below in itertools.pairwise(heights)) >= LINE - 0.1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_what_stands_apart_keeps_its_order_its_distance_and_the_plot(wanted: list[float]) -> None:
    levels = apart(sorted(wanted), 1.0, 1 / 12)
    assert all(above - below >= 1 / 12 - 1e-9 for below, above in itertools.pairwise(levels))
    assert levels[0] >= -1e-9
    assert levels[-1] <= 1 + 1e-9


def test_what_is_apart_already_stays_where_it_is() -> None:
    assert apart([0.1, 0.5, 0.9], 1.0, 0.1) == [0.1, 0.5, 0.9]


def test_a_curve_that_ends_early_is_named_with_its_last_length_and_without_a_line() -> None:
    points = [row for row in rows(128, 256) if row["implementation"] == "a/a" or row["length"] == 128]
    svg = charts.time_by_length(points, "seqlen", MARKS).svg
    assert len(marks_in(svg, "rule")) == len(points) + 1
    assert {"a/a", "b/b, to 128"} <= {text.text for text in marks_in(svg, "text")}


def test_memory_has_guide_lines_of_the_two_laws() -> None:
    svg = charts.memory_by_length(rows(128, 256, 512, power=1.0), "seqlen", MARKS).svg
    assert {"O(n)", "O(n²)", "peak memory of one call"} <= set(texts(svg))
    dashed = [line for line in marks_in(svg, "line") if "stroke-dasharray" in line.attrib]
    assert len(dashed) == 2


def test_guide_lines_end_where_the_plot_ends_and_leave_the_curves_their_room() -> None:
    curves = rows(128, 65_536, power=0.1)
    svg = charts.memory_by_length(curves, "seqlen", MARKS).svg
    heights = {float(point.attrib["transform"].split(",")[1].rstrip(")")) for point in marks_in(svg, "symbol")}
    assert max(heights) - min(heights) > 50


def test_dots_stand_with_the_least_first_and_carry_their_value() -> None:
    svg = charts.dots(rows(128), MARKS, is_time=True).svg
    assert texts(svg).count("128 units") == 2
    assert len(marks_in(svg, "symbol")) == 2


def test_a_single_dot_is_a_chart_too() -> None:
    (point, *_) = rows(128)
    svg = charts.dots([{**point, "low": None, "high": None}], MARKS, is_time=False).svg
    assert len(marks_in(svg, "symbol")) == 1


def test_errors_stand_against_the_budget() -> None:
    points = [
        {"implementation": name, "value": value, "at": "128", "text": ""}
        for name in NAMES
        for value in (0.02, 0.5, 7.0)
    ]
    svg = charts.errors(points, MARKS).svg
    assert len(marks_in(svg, "symbol")) == 6
    assert "error / budget (dashed: the budget)" in texts(svg)


@pytest.mark.parametrize("draw", [decimal_ticks, binary_ticks])
@given(low=st.floats(1e-2, 1e12), factor=st.floats(1.5, 1e9))
def test_ticks_lie_on_the_axis_rise_and_are_few(draw: Any, low: float, factor: float) -> None:
    ticks = draw(low, low * factor)
    assert all(low <= tick <= low * factor for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8


def test_ticks_are_the_plainest_that_are_enough() -> None:
    assert decimal_ticks(5e3, 2e7) == [1e4, 1e5, 1e6, 1e7]
    assert decimal_ticks(1.5e3, 7e4) == [3e3, 1e4, 3e4]
    assert binary_ticks(1000, 3e6) == [4096, 65536, 2**20]
    assert length_ticks([2**i for i in range(4, 21)]) == [2**i for i in range(4, 21, 3)]


def test_a_single_value_gets_room_on_both_sides() -> None:
    low, high = padded(100, 100)
    assert low < 100 < high
    assert math.isclose(low * high, 100 * 100)


def test_gains_over_the_dense_case_lie_beside_the_ideal_on_an_axis_of_shares() -> None:
    points = [{**row, "value": row["length"] ** 0.5, "low": None, "high": None} for row in rows(1, 4, 100)]
    svg = charts.gain_by_share(points, MARKS).svg
    assert len(marks_in(svg, "symbol")) == 6 + 2
    assert len(marks_in(svg, "line")) == 2 + 1
    assert {"100 %", "25 %", "1 %", "speed-up"} <= set(texts(svg))
