"""torch operators are assigned to the calls that ran them, on the clock of the samples."""

from __future__ import annotations

import time

import pytest

from attnbench.profiling.operators import NoOperatorsError, OperatorClock, TorchEvent, placed

MARK = "attnbench call"
EVENTS = [
    TorchEvent("aten::empty", 1, 5.0, 6.0),  # for the inputs, before any call
    TorchEvent(MARK, 1, 10.0, 20.0),
    TorchEvent("aten::mul", 1, 11.0, 19.0),
    TorchEvent("aten::empty", 1, 12.0, 13.0),
    TorchEvent(MARK, 1, 30.0, 40.0),
    TorchEvent("aten::bmm", 7, 31.0, 39.0),
]


def test_events_move_to_the_monotonic_clock_by_the_marks_of_calls() -> None:
    found = placed(EVENTS, [1_000_000, 1_020_000])
    assert [(one.name, one.thread, one.start_ns, one.end_ns) for one in found] == [
        ("aten::mul", None, 1_001_000, 1_009_000),
        ("aten::empty", None, 1_002_000, 1_003_000),
        ("aten::bmm", 7, 1_021_000, 1_029_000),
    ]


def test_marks_that_are_not_those_of_the_calls_are_refused() -> None:
    with pytest.raises(NoOperatorsError, match="saw 2 of 3 calls"):
        placed(EVENTS, [0, 1, 2])
    with pytest.raises(NoOperatorsError, match="ran apart"):
        placed(EVENTS, [0, 50_000_000])


def test_torchs_own_operators_lie_within_the_calls_that_run_them() -> None:
    torch = pytest.importorskip("torch")
    clock, numbers, starts, ends = OperatorClock(), torch.ones(64, 64), [], []
    with clock:
        run = clock.marked(lambda: numbers @ numbers)
        for _ in range(3):
            starts.append(time.monotonic_ns())
            run()
            ends.append(time.monotonic_ns())
        numbers.exp()  # outside of calls
    found = clock.operators(starts)
    names = [one.name for one in found]
    assert names.count("aten::matmul") == 3
    assert "aten::exp" not in names
    products = [one for one in found if one.name == "aten::mm"]
    assert all(ends[place] - starts[place] >= one.end_ns - one.start_ns for place, one in enumerate(products))
