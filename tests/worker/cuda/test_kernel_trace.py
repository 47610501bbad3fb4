"""Kernels and gaps of a trace as torch.profiler exports it: two calls of two kernels, and one kernel before them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnbench.worker.cuda.kernel_trace import kernels_of

TRACE = json.loads((Path(__file__).parent / "two_calls.trace.json").read_text())


def test_kernels_of_marked_calls_are_added_up_and_what_lies_between_them_is_a_gap() -> None:
    found = kernels_of(TRACE)
    assert found.calls == 2
    assert [(one.name, one.launches, one.ns) for one in found.kernels] == [
        ("forward", 1.0, 101_000.0),
        ("merge", 1.0, 11_000.0),
    ]
    assert found.busy_ns == pytest.approx(112_000)
    assert found.gaps_ns == pytest.approx((4 + 6) / 2 * 1e3)
    assert found.first_launch_ns == pytest.approx((8 + 12) / 2 * 1e3)


def test_kernels_that_run_at_once_are_busy_once() -> None:
    events = [dict(one) for one in TRACE["traceEvents"]]
    for one in events:
        if one["name"] == "merge":
            one["ts"] -= 50.0
    found = kernels_of({"traceEvents": events})
    assert found.busy_ns == pytest.approx(101_000)
    assert found.gaps_ns == 0


def test_a_trace_without_marked_calls_is_refused() -> None:
    with pytest.raises(ValueError, match="no call is marked"):
        kernels_of({"traceEvents": []})
