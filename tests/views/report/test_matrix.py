"""A matrix has axes that count its rows and columns, and a scale for its colours."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np

from attnbench.views.report.charts.matrix import Axis, matrix

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314 - drawn a moment ago
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_axes_count_what_the_matrix_is_of_and_not_its_fields() -> None:
    plane = np.linspace(0, 1, 16).reshape(4, 4)
    found = texts(matrix(plane, Axis(title="query", size=2049), Axis(title="key", size=65)))
    assert {"query", "key", "0", "16", "32", "48", "64", "512", "1,024", "1,536", "2,048"} <= set(found)


def test_the_scale_ends_at_the_largest_number_and_is_a_quarter_of_it_at_half_of_the_density() -> None:
    plane = np.array([[0.0, 3.0], [np.inf, 1.0]])
    assert texts(matrix(plane, Axis(title="row", size=2), Axis(title="column", size=2)))[-3:] == ["3.00", "0.750", "0"]


def test_a_single_row_is_high_enough_to_be_seen_and_its_ticks_do_not_pile_up() -> None:
    svg = matrix(np.ones((1, 64)), Axis(title="query", size=1), Axis(title="key", size=64))
    image = next(ET.fromstring(svg).iter(f"{SVG}image"))  # noqa: S314 - drawn a moment ago
    assert float(image.attrib["height"]) >= 60
    assert texts(svg).count("0") == 3  # on both axes and the scale


def test_where_there_are_many_rows_in_little_room_only_the_ends_are_named() -> None:
    found = texts(matrix(np.ones((5, 64)), Axis(title="query", size=5), Axis(title="key", size=64)))
    assert [text for text in found if text in "01234" and text] == ["0", "0", "4", "0"]
