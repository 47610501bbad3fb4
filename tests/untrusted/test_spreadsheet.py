from __future__ import annotations

import pytest

from attnbench.untrusted.spreadsheet import csv_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://a.example")'])
def test_a_formula_is_shown_as_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["torch/sdpa", "", "a=b", -1.5, -3, None, True])
def test_anything_else_stays(value: object) -> None:
    assert csv_cell(value) is value
