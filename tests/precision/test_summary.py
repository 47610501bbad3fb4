"""The tables of precision, from runs whose scatter and coverage are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.precision.summary import coverage, pairs, precision, scatter


def line(number: int, *, busy: bool = False, reach: float = 0.1) -> dict[str, Any]:
    """Return a line that is 1 % slower with each run; its interval extends by ``reach`` on a log scale."""
    ns = 1e6 * math.exp(0.01 * number)
    interval = [ns * math.exp(-reach), ns * math.exp(reach)]
    return {
        "tool": "attnbench", "busy": busy, "wall_s": 4.0, "ns": {"fused": ns, "unfused": 1e6},
        "intervals": {"fused": interval, "unfused": [1e6, 1e6]}, "ratios": {"fused": [ns, *interval]},
    }  # fmt: skip


def test_scatter_is_a_share() -> None:
    assert scatter([100, 100 * math.e**0.02]) == pytest.approx(0.02 / math.sqrt(2))


def test_scatter_for_a_second_of_time_grows_with_the_time_of_a_run() -> None:
    *_, row = precision([line(0), line(1), line(2), line(9, busy=True)])
    assert row == "| attnbench | 3 | 4.0 s | fused 1.0 %, unfused 0.0 % | 1.4 % |"


def test_tools_that_ran_too_rarely_are_left_out() -> None:
    assert len(list(precision([line(0), line(1)]))) == 2


def test_intervals_that_hold_the_next_run_may_not_hold_all_others() -> None:
    rows = list(coverage([line(number, reach=0.015) for number in range(4)]))[2:]
    assert rows == [
        "| times, alone | 8 | ±0.8 % | 100 % | 75 % |",
        "| ratios, alone | 4 | ±1.5 % | 100 % | 50 % |",
    ]


def test_pairs_that_are_called_different_are_counted() -> None:
    alike = {"ratio": [1.0, 0.9, 0.9 * 1.21], "difference": "within noise"}
    unlike = {"ratio": [1.3, 1.2, 1.2 * 1.21], "difference": "faster"}
    unknown = {"ratio": [1.3, None, None], "difference": "within noise"}
    lines = [
        {"busy": False, "pairs": [alike, unlike]},
        {"busy": False, "pairs": [alike, unknown]},
        {"busy": True, "pairs": [{**unlike, "difference": "slower"}]},
    ]
    assert list(pairs(lines))[2:] == [
        "| alone | 2 | 4 | 1 | ±10.0 % |",
        "| beside a busy core | 1 | 1 | 1 | ±10.0 % |",
    ]
