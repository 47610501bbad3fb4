"""A large speed-up is accepted only if head is right on other inputs and stays below the machine's peak."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench.gate.judge.cell_data import Observed, SideOfCell
from attnbench.gate.judge.verify_speedups import believed, is_suspicious, other_inputs
from attnbench.gate.verdict import Verdict
from tests.gate.conftest import CELLS, Imagined, of_one


@pytest.fixture
def half(imagined: Imagined) -> Verdict:
    """Return the verdict on a cell that takes half of its former time."""
    return of_one(imagined(slower=-0.5))


def test_only_large_speed_ups_are_checked(imagined: Imagined, half: Verdict) -> None:
    assert is_suspicious(half)
    assert not is_suspicious(of_one(imagined(slower=-0.1)))
    assert not is_suspicious(of_one(imagined(slower=0.5)))


@pytest.mark.parametrize(
    ("record", "verdict", "words"),
    [
        ({"status": "ok", "percent_of_peak": 41.0}, "faster", "right on other inputs, too and at 41 %"),
        ({"status": "wrong", "reason": "out is off"}, "wrong", "on other inputs it is wrong: out is off"),
        ({"status": "invalid", "reason": "above the peak"}, "invalid", "above the peak"),
        ({"status": "crashed", "reason": "SIGSEGV"}, "invalid", "crashed: SIGSEGV"),
        (None, "invalid", "gave no record"),
    ],
)
def test_what_the_check_makes_of_it(half: Verdict, record: dict[str, Any] | None, verdict: str, words: str) -> None:
    after = believed(half, record and record | {"repro": "attnbench run -a seed=1000003"})
    assert after.verdict == verdict
    assert words in after.sentence
    assert "faster" in after.sentence, "what was measured is still told"
    if record is not None and verdict != "faster":
        assert after.repro == "attnbench run -a seed=1000003", "only the other inputs show it"


def test_other_inputs_are_another_case_of_the_same_shape() -> None:
    case, implementation = CELLS[0]
    nothing = SideOfCell(records=())
    cell = Observed(key=(case.case_id, implementation, "cpu"), case=case, base=nothing, head=nothing)
    case_id, name, device = other_inputs(cell).split()
    assert case_id != case.case_id
    assert (name, device) == (implementation, "cpu")
