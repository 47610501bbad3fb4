"""The interval of the median contains the median at its nominal rate."""

from __future__ import annotations

import random
import statistics

import pytest
from scipy.stats import quantile_test

from attnbench.metrics.median import median_interval


def test_five_samples_are_too_few() -> None:
    assert median_interval([1, 2, 3, 4, 5]) is None


def test_six_samples_give_their_range() -> None:
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)


@pytest.mark.parametrize("n", [6, 7, 10, 25, 100, 200, 999])
def test_it_is_the_exact_binomial_interval(n: int) -> None:
    samples = [random.Random(n).gauss() for _ in range(n)]
    low, high = quantile_test(samples, q=0, p=0.5).confidence_interval(0.95)
    assert median_interval(samples) == (low, high)


def test_the_normal_approximation_takes_over_without_a_step() -> None:
    samples = list(range(1_001))
    low, high = quantile_test(samples, q=0, p=0.5).confidence_interval(0.95)
    approximated = median_interval(samples)
    assert approximated is not None
    assert approximated == pytest.approx((low, high), abs=1)


def test_it_covers_the_true_median_of_skewed_noise_at_least_95_times_in_100() -> None:
    generator = random.Random(1)
    covered = 0
    for _ in range(1_000):
        samples = [generator.lognormvariate(0, 0.5) for _ in range(20)]
        interval = median_interval(samples)
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    assert 950 <= covered <= 985, "20 samples have an exact coverage of 95.9 %"


def test_the_median_lies_inside() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 8.0, 9.0, 3.0]
    interval = median_interval(samples)
    assert interval is not None
    assert interval[0] <= statistics.median(samples) <= interval[1]
