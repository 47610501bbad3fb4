"""A cell's value is the median of its processes' medians; intervals state their source."""

from __future__ import annotations

import numpy as np
import pytest

from attnbench.views.estimates import (
    NO_INTERVAL,
    CellTiming,
    SampleInterval,
    Visits,
    clearly_faster,
    difference,
    ratio,
    sample_interval,
)


def timing(*medians: float, spread: float | None = 0.01) -> CellTiming:
    """Return processes with these medians, and intervals that extend by ``spread`` to both sides."""
    return CellTiming(medians=medians, intervals=tuple(None if spread is None else around(m, spread) for m in medians))


def around(median: float, spread: float) -> SampleInterval:
    return SampleInterval(low=median * (1 - spread), high=median * (1 + spread), method="own")


def test_the_value_is_the_median_of_the_processes_medians() -> None:
    assert timing(10, 30, 11).value == 11
    assert timing(10, 30).value == 20


def test_one_process_has_the_interval_of_its_samples() -> None:
    estimate = timing(100).estimate
    assert (estimate.low, estimate.high, estimate.method) == (99, 101, "own")


def test_two_processes_have_the_hull_of_their_intervals() -> None:
    estimate = timing(100, 200).estimate
    assert (estimate.low, estimate.high) == (99, 202)
    assert estimate.method == "own, hull over 2 processes"


def test_from_three_processes_on_the_spread_between_them_counts_and_not_that_within() -> None:
    estimate = timing(100, 110, 120, spread=0.5).estimate
    assert (estimate.low, estimate.high) == (100, 120)
    assert estimate.method == "bootstrap over 3 processes (so few: nearer to their range than to 95 %)"
    assert timing(*range(100, 110)).estimate.method == "bootstrap over 10 processes"


def test_the_bootstrap_of_many_processes_is_narrower_than_their_range() -> None:
    medians = [100 + i for i in range(21)]
    estimate = timing(*medians).estimate
    assert estimate.low is not None
    assert estimate.high is not None
    assert 100 < estimate.low < estimate.value < estimate.high < 120


def test_the_same_numbers_give_the_same_interval_every_time() -> None:
    assert timing(1, 2, 3, 4, 5, 6, 7).estimate == timing(1, 2, 3, 4, 5, 6, 7).estimate


def test_without_an_interval_in_one_of_the_processes_there_is_none_at_all() -> None:
    known = SampleInterval(low=9, high=11, method="own")
    estimate = CellTiming(medians=(10, 10), intervals=(known, None)).estimate
    assert (estimate.low, estimate.high, estimate.method) == (None, None, NO_INTERVAL)


def test_few_samples_have_their_range_for_an_interval_and_say_so() -> None:
    assert sample_interval([5.0, 3.0, 4.0], None, None) == SampleInterval(low=3, high=5, method="range of 3 samples")
    assert sample_interval([5.0, 3.0], None, None) is None
    assert sample_interval(None, None, None) is None
    assert sample_interval([5.0, 3.0, 4.0], 3.5, 4.5) == SampleInterval(
        low=3.5, high=4.5, method="95 % interval within the process"
    )


PROCESSES = 1.96 * np.sqrt(2) * 0.02
"""Half-width, on a log scale, of an interval due to differences between processes."""


def visited(run: str, *medians: float) -> CellTiming:
    visits = Visits(run=run, medians=medians)
    return CellTiming(medians=(float(np.median(medians)),), intervals=(None,), visits=(visits,))


def test_a_ratio_within_a_run_is_that_of_visits_side_by_side() -> None:
    drift = (100, 110, 120, 130, 140)  # which affects both
    one, other = visited("r", *(2 * d for d in drift)), visited("r", *drift, 200)
    estimate = ratio(one, other)
    assert estimate.method == "5 pairs of visits"
    assert estimate.value == pytest.approx(2)
    assert estimate.low == pytest.approx(2 * np.exp(-PROCESSES))
    assert estimate.high == pytest.approx(2 * np.exp(PROCESSES))


def test_one_kernel_is_not_faster_than_itself_where_the_machine_changes_its_pace() -> None:
    """Their medians were taken at different paces: 7.3 and 4.4 ms."""
    one = visited("r", 7.33, 7.33, 7.32, 4.28, 4.27)
    other = visited("r", 7.40, 7.40, 4.38, 4.38, 4.36)
    assert one.value / other.value == pytest.approx(7.32 / 4.38)
    steady = visited("r", 7.40, 7.40, 7.39, 4.38, 4.36)
    assert ratio(one, steady).value == pytest.approx(0.990, abs=0.002)
    assert difference(one, steady, ratio(one, steady)) == "within noise"
    assert difference(one, other, ratio(one, other)) == "within noise"


def test_the_interval_of_visits_is_students_for_as_many_later_ones() -> None:
    estimate = ratio(visited("r", 90, 100, 110), visited("r", 100, 100, 100))
    logs = np.log([0.9, 1.0, 1.1])
    reach = np.hypot(4.302653 * np.std(logs, ddof=1) * np.sqrt(2 / 3), PROCESSES)
    assert estimate.low == pytest.approx(np.exp(-reach))
    assert estimate.high == pytest.approx(np.exp(reach))


def test_the_machines_drift_is_in_a_ratio_too() -> None:
    still = Visits(run="r", medians=(100, 100, 100), drift=0.05)
    one = CellTiming(medians=(100,), intervals=(None,), visits=(still,))
    estimate = ratio(one, visited("r", 50, 50, 50))
    reach = np.hypot(1.96 * np.sqrt(2) * 0.05, PROCESSES)
    assert estimate.low == pytest.approx(2 * np.exp(-reach))
    assert estimate.high == pytest.approx(2 * np.exp(reach))


def test_a_drift_beyond_all_numbers_gives_no_interval() -> None:
    """A stranger's file may hold one; the ends of the interval would not be finite."""
    wild = Visits(run="r", medians=(100, 100, 100), drift=1e6)
    one = CellTiming(medians=(100,), intervals=(None,), visits=(wild,))
    assert ratio(one, visited("r", 50, 50, 50)).low is None


@pytest.mark.parametrize("other", [visited("another", 1, 2, 3), visited("r", 1, 2), timing(2, spread=None)])
def test_visits_of_different_runs_or_too_few_of_them_are_not_paired(other: CellTiming) -> None:
    assert ratio(visited("r", 1, 2, 3), other).method == NO_INTERVAL


def test_a_ratio_of_single_processes_reaches_from_one_intervals_end_to_the_others_opposite_end() -> None:
    estimate = ratio(timing(200), timing(100))
    assert estimate.value == 2
    assert estimate.low == pytest.approx(198 / 101)
    assert estimate.high == pytest.approx(202 / 99)
    assert estimate.method == "from the intervals of both medians"


def test_a_ratio_of_three_processes_and_more_is_bootstrapped_over_them() -> None:
    estimate = ratio(timing(200, 202, 204, 206, 208, 210), timing(100, 101, 102, 103, 104, 105))
    assert estimate.method == "bootstrap over 6 processes"
    assert estimate.low is not None
    assert estimate.high is not None
    assert 200 / 105 < estimate.low < 2 < estimate.high < 210 / 100


def test_a_ratio_of_which_one_side_has_few_processes_falls_back_to_intervals() -> None:
    assert ratio(timing(200, 201, 202), timing(100)).method == "from the intervals of both medians"


def test_a_ratio_has_no_interval_where_a_side_has_none() -> None:
    estimate = ratio(timing(200, spread=None), timing(100))
    assert (estimate.value, estimate.low, estimate.high, estimate.method) == (2, None, None, NO_INTERVAL)


def test_overlapping_intervals_are_within_noise() -> None:
    assert not clearly_faster(timing(100, spread=0.05), timing(106, spread=0.05))
    assert clearly_faster(timing(100, spread=0.05), timing(120, spread=0.05))
    assert not clearly_faster(timing(120, spread=0.05), timing(100, spread=0.05))


def test_a_small_difference_of_few_processes_is_within_noise_however_narrow_their_intervals() -> None:
    assert not clearly_faster(timing(100, spread=1e-6), timing(101.9, spread=1e-6))
    assert clearly_faster(timing(100, spread=1e-6), timing(102.1, spread=1e-6))
    assert not clearly_faster(timing(*[100] * 5), timing(*[101.9] * 5))


def test_a_small_difference_of_many_processes_counts() -> None:
    assert clearly_faster(timing(*[100] * 6), timing(*[101] * 6))


def test_a_difference_without_an_interval_is_never_clear() -> None:
    assert not clearly_faster(timing(100, spread=None), timing(900, spread=None))


@pytest.mark.parametrize("n", [3, 4, 7, 10])
def test_the_exact_bootstrap_is_what_random_resamples_come_to(n: int) -> None:
    rng = np.random.default_rng(n)
    above, below = rng.lognormal(0, 0.1, n), rng.lognormal(0.05, 0.2, n)
    drawn = [np.median(rng.choice(values, (100_000, n)), axis=1) for values in (above, below)]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975], method="inverted_cdf")
    estimate = ratio(timing(*above), timing(*below))
    # The ratio takes few values: a random end is the exact one or next to it.
    assert estimate.low == pytest.approx(low, rel=0.01)
    assert estimate.high == pytest.approx(high, rel=0.01)


def test_a_ratio_the_other_way_round_has_the_reciprocal_interval() -> None:
    one, other = timing(98, 100, 103, 109), timing(50, 51, 57, 60)
    there, back = ratio(one, other), ratio(other, one)
    assert there.low is not None
    assert there.high is not None
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))
    assert difference(one, other, there) == "faster"
    assert difference(other, one, back) == "slower"
