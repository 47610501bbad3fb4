"""Crossovers are where one curve overtakes another, with valid bounds."""

from __future__ import annotations

import numpy as np
import pytest

from attnbench.scaling import crossovers

LENGTHS = [128, 256, 512, 1024, 2048]


def band(ratios: list[float], width: float) -> tuple[list[float], list[float]]:
    return [r / width for r in ratios], [r * width for r in ratios]


def test_a_crossing_is_interpolated_and_its_interval_is_where_the_band_holds_one() -> None:
    ratios = [n / 700 for n in LENGTHS]
    (found,) = crossovers(LENGTHS, ratios, *band(ratios, 1.1))
    assert found.rises
    assert (found.length, found.low, found.high) == pytest.approx((700, 700 / 1.1, 700 * 1.1))


def test_a_ratio_of_exactly_one_is_a_crossing_if_the_sides_differ() -> None:
    ratios = [0.25, 0.5, 1.0, 2.0, 4.0]
    (exact,) = crossovers(LENGTHS, ratios, ratios, ratios)
    assert (exact.length, exact.low, exact.high) == pytest.approx((512, 512, 512))
    (flat,) = crossovers(LENGTHS, [2.0, 1.0, 1.0, 1.0, 0.5], *band([2.0, 1.0, 1.0, 1.0, 0.5], 1.1))
    assert flat.length == pytest.approx(512)
    assert not flat.rises
    for touches in ([0.5, 1.0, 0.5, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]):
        assert crossovers(LENGTHS, touches, touches, touches) == []


def test_where_the_band_never_leaves_one_the_interval_is_open() -> None:
    ratios = [1.1, 1.05, 0.98, 0.97, 0.96]
    (found,) = crossovers(LENGTHS, ratios, *band(ratios, 1.2))
    assert not found.rises
    assert found.low is None
    assert found.high is None
    assert 256 < found.length < 512


def test_crossings_that_noise_does_not_tell_apart_are_one_or_none() -> None:
    thrice = [0.5, 0.98, 1.03, 0.97, 1.6]
    (found,) = crossovers(LENGTHS, thrice, *band(thrice, 1.1))
    assert found.low is not None
    assert found.high is not None
    assert 128 < found.low < 256
    assert 1024 < found.high < 2048
    twice = [0.5, 0.98, 1.03, 0.97, 0.5]
    assert crossovers(LENGTHS, twice, *band(twice, 1.1)) == []


def test_curves_that_never_meet_have_no_crossing() -> None:
    assert crossovers(LENGTHS, [2.0] * 5, [1.9] * 5, [2.1] * 5) == []


def test_the_interval_holds_the_true_crossing_at_least_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(3)
    truth = np.array(LENGTHS) / 700
    noise = 0.05
    held, seen = 0, 0
    for _ in range(400):
        ratios = (truth * np.exp(rng.normal(0, noise, 5))).tolist()
        for one in crossovers(LENGTHS, ratios, *band(ratios, float(np.exp(1.96 * noise)))):
            seen += 1
            held += (one.low or 0) <= 700 <= (one.high or 1e9)
    assert seen >= 400
    assert held / seen >= 0.94
