"""Series worked out by hand: chains of anchors, contradictions, segments, readings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.history.series import readings, time_series
from tests.history.lines import MIB, point, revision


def test_points_of_one_anchor_are_as_they_were_measured() -> None:
    (one,) = time_series([point(0), point(1, log_ratio=0.10, se=0.01), point(2, log_ratio=0.20, se=0.02)])
    assert one.anchor == revision(0)
    assert one.logs.tolist() == pytest.approx([0.0, 0.10, 0.20])
    assert np.sqrt(np.diag(one.covariance)).tolist() == pytest.approx([0.0, 0.01, 0.02])
    assert one.covariance[1, 2] == pytest.approx(0.0, abs=1e-12), "each was measured with an anchor of its own rounds"
    expected = [math.exp(0.2 + 1.96 * 0.02 * sign) for sign in (0, -1, 1)]
    assert list(one.ratio(2)) == pytest.approx(expected, rel=1e-4)


def test_a_new_anchor_is_chained_to_the_first() -> None:
    """2 is 10 % above 0 and 3 is 5 % above 2, so 3 is 15 % above 0, and both share the error of 2."""
    (one,) = time_series(
        [point(0), point(2, log_ratio=0.10, se=0.03), point(3, anchor=2, log_ratio=0.05, se=0.04), point(2, anchor=2)]
    )
    assert [revision(0), revision(2), revision(3)] == list(one.revisions)
    assert one.logs.tolist() == pytest.approx([0.0, 0.10, 0.15])
    assert one.covariance[2, 2] == pytest.approx(0.03**2 + 0.04**2)
    assert one.covariance[1, 2] == pytest.approx(0.03**2)
    assert one.step(1, 2) == pytest.approx((0.05, 0.04)), "what both share is in neither's way"


def test_an_anchor_measured_with_a_later_one_hangs_together_too() -> None:
    """A backfill: 5 was the anchor, and 0 was measured with it."""
    (one,) = time_series([point(5, anchor=5), point(0, anchor=5, log_ratio=-0.2), point(6, anchor=5, log_ratio=0.1)])
    assert one.anchor == revision(5)
    assert one.logs.tolist() == pytest.approx([-0.2, 0.0, 0.1])


def test_anchors_that_never_met_make_two_series() -> None:
    both = time_series(
        [point(1, anchor=0, log_ratio=0.1), point(0), point(3, anchor=2, log_ratio=0.3), point(2, anchor=2)]
    )
    assert [list(one.revisions) for one in both] == [[revision(0), revision(1)], [revision(2), revision(3)]]


def test_two_measurements_that_agree_are_averaged_by_their_variances() -> None:
    again = point(1, log_ratio=0.12, se=0.02, measured_at="2026-12-01")
    (one,) = time_series([point(0), point(1, log_ratio=0.10, se=0.01), again])
    assert one.logs[1] == pytest.approx((0.10 / 0.01**2 + 0.12 / 0.02**2) / (1 / 0.01**2 + 1 / 0.02**2))
    assert one.covariance[1, 1] == pytest.approx(1 / (1 / 0.01**2 + 1 / 0.02**2))


def test_two_measurements_that_contradict_each_other_are_less_sure_than_either() -> None:
    """0.10 and 0.30, each ± 0.01: chi square is 2 (0.10 / 0.01)² = 200, so the variance 0.01² / 2 grows to 0.1²."""
    again = point(1, log_ratio=0.30, measured_at="2026-12-01")
    (one,) = time_series([point(0), point(1, log_ratio=0.10), again])
    assert one.logs[1] == pytest.approx(0.20)
    assert math.sqrt(one.covariance[1, 1]) == pytest.approx(0.1)


def test_segments_are_never_mixed() -> None:
    points = [point(0), point(1, log_ratio=0.1), point(0, segment="s2"), point(2, log_ratio=0.3, segment="s2")]
    series = time_series(points)
    assert [(one.segment, one.logs.tolist()) for one in series] == [
        ("s1", pytest.approx([0, 0.1])), ("s2", pytest.approx([0, 0.3]))
    ]  # fmt: skip


def test_equal_samples_in_every_round_are_not_certain() -> None:
    (one,) = time_series([point(0), point(1, log_ratio=0.1, se=0.0)])
    assert one.covariance[1, 1] > 0


def test_of_several_readings_the_plainest_is_taken() -> None:
    first = point(1, memory_peak_bytes=3 * MIB, error_ratio=0.1, first_call_ns=5e6)
    second = point(1, memory_peak_bytes=2 * MIB, error_ratio=0.4, first_call_ns=9e6, measured_at="2026-12-01")
    (one,) = readings([first, second])
    assert (one.memory_peak_bytes, one.error_ratio, one.first_call_ns) == (2 * MIB, 0.4, 5e6)
    (wrong,) = readings([first, point(1, status="wrong", measured_at="2026-12-01")])
    assert wrong.status == "wrong"
