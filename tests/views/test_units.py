"""Formatted numbers have a fitting unit and three significant digits; absent ones are a dash."""

from __future__ import annotations

from typing import get_args

import pytest

from attnbench import units as fmt


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0.5, "0.500 ns"),
        (999, "999 ns"),
        (999.9, "1.00 µs"),
        (1_000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_900, "1.00 ms"),
        (1_234_567, "1.23 ms"),
        (6_018_788, "6.02 ms"),
        (232_025_630, "232 ms"),
        (61_000_000_000, "61.0 s"),
        (7_261_000_000_000, "7,261 s"),
        (None, "—"),
    ],
)
def test_a_duration_has_the_unit_that_makes_it_at_least_one(ns: float | None, text: str) -> None:
    assert fmt.duration(ns) == text


def test_both_ends_of_an_interval_have_the_unit_of_the_upper_one() -> None:
    assert fmt.duration_interval(998_000, 1_003_400) == "0.9980 … 1.003 ms"
    assert fmt.duration_interval(None, 5.0) == "—"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1000, "1,000 B"),
        (1023, "1,023 B"),
        (1024, "1.00 KiB"),
        (4096, "4.00 KiB"),
        (3 * 2**30, "3.00 GiB"),
        (None, "—"),
    ],
)
def test_bytes_are_counted_in_powers_of_1024(count: int | None, text: str) -> None:
    assert fmt.size(count) == text


def test_small_rates_are_gigaflops() -> None:
    assert [fmt.rate(value) for value in (989.0, 0.13, 0.0004, None)] == [
        "989 TFLOP/s",
        "0.130 TFLOP/s",
        "0.400 GFLOP/s",
        "—",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.834, "1.83"),
        (9.996, "10.0"),
        (99.96, "100"),
        (0.0999, "0.0999"),
        (0.09996, "0.100"),
        (0, "0"),
        (3e-6, "3.00e-06"),
        (10_417.3, "10,417"),
    ],
)
def test_a_number_keeps_three_significant_digits_when_it_is_rounded_up(value: float, text: str) -> None:
    assert fmt.number(value) == text


def test_lengths_are_whole_multiples_of_1024_or_plain_numbers() -> None:
    assert [fmt.length(n) for n in (1, 128, 1000, 1024, 1025, 131_072, 2**20)] == [
        "1",
        "128",
        "1,000",
        "1k",
        "1,025",
        "128k",
        "1M",
    ]


def test_of_many_items_the_first_are_named_and_the_others_counted() -> None:
    assert fmt.listing(["a", "b"]) == "a, b"
    assert fmt.listing(["a", "b", "c", "d", "e", "f"], most=2) == "a, b and 4 more"


def test_counts_agree_with_their_nouns() -> None:
    assert [fmt.count(1, "cell"), fmt.count(1200, "cell"), fmt.count(2, "process", "processes")] == [
        "1 cell",
        "1,200 cells",
        "2 processes",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234.0, "ns", "1.23 µs"),
        (0.25, "s", "250 ms"),
        (2**20, "bytes", "1.00 MiB"),
        (4_294_967_296, "flop", "4.29 GFLOP"),
        (0.05, "TFLOP/s", "50.0 GFLOP/s"),
        (27.25, "GB/s", "27.2 GB/s"),
        (12.34, "%", "12.3 %"),
        (0.5, "ratio", "0.500"),
        (1234, "count", "1,234"),
        (1980, "MHz", "1,980 MHz"),
        ((0, 3, 17, 5), "index", "batch 0, head 3, row 17, column 5"),
        (True, "yes/no", "yes"),
        (False, "yes/no", "no"),
        (("power cap", "thermal"), "text", "power cap, thermal"),
        (None, "ns", "—"),
    ],
)
def test_each_unit_has_its_way_to_be_shown(value: object, unit: fmt.Unit, text: str) -> None:
    assert fmt.shown(value, unit) == text


def test_no_unit_is_left_to_be_shown_as_it_is() -> None:
    assert [unit for unit in get_args(fmt.Unit) if unit != "text" and fmt.shown((1,), unit) == "1"] == ["count"]
