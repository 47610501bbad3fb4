from __future__ import annotations

import pytest

from attnbench.sweep.sizes import parse_range, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("128", 128), ("1k", 1024), ("16K", 16384), ("2m", 2 * 1024 * 1024), (" 4k ", 4096), ("0", 0)],
)
def test_sizes_are_counted_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "1g", "1.5k", "-1", "1k1", "1 k", "٣"])
def test_what_is_no_size_gives_none(text: str) -> None:
    assert parse_size(text) is None


def test_a_range_doubles_up_to_its_end_which_belongs_to_it() -> None:
    assert parse_range("128..1k") == [128, 256, 512, 1024]
    assert parse_range("3..24") == [3, 6, 12, 24]
    assert parse_range("5..5") == [5]


def test_what_is_no_range_gives_none() -> None:
    assert parse_range("128") is None
    assert parse_range("128...1k") is None


@pytest.mark.parametrize("text", ["128..1000", "1k..128", "0..8"])
def test_a_range_whose_end_is_never_reached_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not reach"):
        parse_range(text)
