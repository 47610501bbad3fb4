"""Disturbances only raise a peak of memory, and a real change recurs in fresh processes."""

from __future__ import annotations

from attnbench.gate.gate import verdicts_of
from attnbench.gate.judge.cell_data import Observed, SideOfCell
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.judge.verdicts import memory_change, memory_verdict
from tests.gate.conftest import CELLS, MIB


def side_of(peaks: list[float]) -> SideOfCell:
    return SideOfCell(
        records=tuple(
            {
                "status": "ok", "reason": "not timed", "repro": "attnbench run", "time_median_ns": None,
                "memory_peak_bytes": int(peak * MIB), "memory_resolution_bytes": 128 * 1024,
            }
            for peak in peaks
        )
    )  # fmt: skip


def cell(base: list[float], head: list[float]) -> Observed:
    """Return a cell with these peaks in MiB, one per process."""
    case, name = CELLS[0]
    return Observed(key=(case.case_id, name, "cpu"), case=case, base=side_of(base), head=side_of(head))


def judged(one: Observed) -> str:
    change = memory_change(one, 0.005)
    assert change is not None
    return memory_verdict(one, change).verdict


def test_readings_of_one_side_that_vary_by_as_much_as_the_change_are_ambiguous() -> None:
    assert judged(cell([3, 5], [4, 4])) == "ambiguous"
    assert judged(cell([3, 3], [4, 4])) == "bigger"


def test_one_disturbed_reading_is_no_change() -> None:
    assert judged(cell([3, 3], [5, 3])) == "same"


def test_fresh_readings_decide() -> None:
    first, fresh = cell([3, 3], [4, 4]), cell([3, 3], [3, 3])
    (memory,) = [one for one in verdicts_of(first, first, fresh, None, Rules()) if one.metric == "memory"]
    assert memory.verdict == "same"
    (memory,) = [one for one in verdicts_of(first, first, first, None, Rules()) if one.metric == "memory"]
    assert memory.verdict == "bigger"
