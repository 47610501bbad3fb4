"""JSON from strangers may hold finite numbers only."""

from __future__ import annotations

import pytest

from attnbench.untrusted.json_text import parse_json


@pytest.mark.parametrize("text", ["1e999", "1" * 290 + "e99", "[-" + "9" * 210 + "e99]", "1" * 310 + ".5"])
def test_a_number_beyond_all_floats_is_refused_however_it_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="beyond all floats"):
        parse_json(text)


def test_a_long_number_that_is_finite_is_read() -> None:
    assert parse_json("1" * 209 + "e99") == float("1" * 209 + "e99")
