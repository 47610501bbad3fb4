"""The answer of a gate on a candidate, from results of the real gate; and what a time budget allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.gate.measure.side import Side
from attnbench.gate.measure.source import SideError
from attnbench.gate.verdict import GateResult
from attnbench.history.adding import Budget, bridge, differ, new_lines
from attnbench.history.changes.candidates import Candidate
from attnbench.history.measuring import GateJudge, Measured, judgement_of
from attnbench.history.point import ALL, Metric, segment_of
from attnbench.history.revisions import Commit
from tests.gate.conftest import MIB, ONE, Imagined
from tests.history.lines import point, revision


@pytest.fixture
def imagined(tmp_path: Path) -> Imagined:
    (tmp_path / "runs").mkdir()
    return Imagined(tmp_path)


def candidate(metric: Metric, *verdicts: str, cell: tuple[str, str, str] = (*ONE, "cpu")) -> Candidate:
    return Candidate(
        cell=cell, label="it", metric=metric, verdicts=frozenset(verdicts), good="0", bad="1", size=None, q=None
    )


def told(result: GateResult, one: Candidate) -> str:
    return judgement_of(result, one).decision


def test_a_slow_down_is_a_change_and_the_other_way_is_none(imagined: Imagined) -> None:
    result = imagined(slower=0.10)
    found = judgement_of(result, candidate("time", "slower"))
    assert (found.decision, found.verdict) == ("changed", "slower")
    assert found.ratio == pytest.approx(1.10, abs=0.02)
    assert found.ratio_low is not None
    assert found.ratio_low < 1.10
    assert told(result, candidate("time", "faster")) == "same"
    assert told(result, candidate("memory", "bigger")) == "same"


def test_what_is_the_same_is_good_and_noise_cannot_be_told(imagined: Imagined) -> None:
    assert told(imagined(), candidate("time", "slower")) == "same"


def test_a_cell_too_noisy_to_tell_is_passed_over(imagined: Imagined) -> None:
    assert told(imagined(noise=0.3), candidate("time", "slower")) == "cannot_tell"


def test_memory(imagined: Imagined) -> None:
    result = imagined(head={"memory_peak_bytes": 5 * MIB})
    assert told(result, candidate("memory", "bigger")) == "changed"
    assert told(result, candidate("memory", "smaller")) == "same"


def test_a_wrong_cell_has_no_time_and_is_bad_for_who_asks_for_outcomes(imagined: Imagined) -> None:
    result = imagined(head={"status": "wrong", "reason": "out: error 3"})
    assert told(result, candidate("outcome", "wrong", "lost")) == "changed"
    assert told(result, candidate("time", "slower")) == "cannot_tell"


def test_a_cell_that_is_still_wrong_has_not_been_gained(imagined: Imagined) -> None:
    wrong = {"status": "wrong", "reason": "out: error 3"}
    assert told(imagined(base=wrong, head=wrong), candidate("outcome", "gained")) == "same"
    assert told(imagined(base=wrong), candidate("outcome", "gained")) == "changed"
    assert told(imagined(), candidate("outcome", "wrong", "lost")) == "same"


def test_a_cell_that_the_gate_does_not_know_cannot_be_told(imagined: Imagined) -> None:
    assert told(imagined(), candidate("time", "slower", cell=("none", "a/b", "cpu"))) == "cannot_tell"


def test_a_revision_that_cannot_be_built_cannot_be_told_and_is_tried_once() -> None:
    asked: list[str] = []
    said: list[str] = []

    def broken(revision: str) -> Side:
        asked.append(revision)
        raise SideError(f"{revision} cannot be installed: no such compiler")

    judge = GateJudge(
        side_of=broken,
        plan_of=lambda sides: pytest.fail(str(sides)),
        folder_of=lambda plan: pytest.fail(str(plan)),
        observer=Quiet(),
        command=[],
        says=said.append,
    )
    one = candidate("memory", "bigger")
    assert [judge.judge(one, "a", "b").decision for _ in range(2)] == ["cannot_tell"] * 2
    assert "no such compiler" in judge.judge(one, "a", "b").sentence
    assert asked == ["a"]
    assert len(said) == 1


class Quiet:
    def begins(self, what: str) -> None: ...
    def ended(self) -> None: ...


def test_what_all_cells_have_in_common_is_a_cell_of_its_own(imagined: Imagined) -> None:
    everything = candidate("time", "slower", cell=(ALL, ALL, "cpu"))
    assert told(imagined(everything_slower=0.10), everything) == "changed"
    assert told(imagined(), everything) == "same"


def test_a_budget_begins_what_will_probably_end_in_time() -> None:
    now = [0.0]
    budget = Budget(100, lambda: now[0])
    begun = []
    while budget.has_room():
        begun.append(now[0])
        now[0] += 30
    assert begun == [0, 30, 60], "a fourth would have ended at 120"


def test_the_first_may_take_longer_than_there_is_time() -> None:
    now = [0.0]
    budget = Budget(1, lambda: now[0])
    assert budget.has_room()
    now[0] = 50
    assert not budget.has_room()


def test_the_anchor_has_one_line_in_a_segment() -> None:
    segment = segment_of({"torch": "2.13.0"})
    own = point(0, segment=segment.segment)
    found = Measured(segment=segment, points=[own, point(1, log_ratio=0.1, segment=segment.segment)])
    first = new_lines(found, [], set())
    assert first == [segment, *found.points]
    again = new_lines(found, [own], {segment.segment})
    assert again == [found.points[1]]


def test_the_first_revision_of_a_new_segment_brings_the_one_before_along() -> None:
    before = [point(0), point(3, log_ratio=0.1), point(5, log_ratio=0.1)]
    segment = segment_of({"torch": "2.14.0"})
    measured = Measured(segment=segment, points=[point(9, log_ratio=0.1, segment=segment.segment)])
    commit = _commit(9)
    assert [one.revision for one in bridge(before, measured, commit)] == [revision(5)]
    assert bridge([*before, *measured.points], measured, commit) == [], "only once"
    assert bridge([point(0)], measured, commit) == [], "the anchor is in each segment anyway"


def test_a_gap_is_worth_a_look_where_a_cell_differs() -> None:
    def worth(*points: object) -> bool:
        return differ([point(0), *points], revision(1), revision(2))  # type: ignore[list-item]  # points

    assert not worth(point(1, log_ratio=0.01), point(2, log_ratio=0.02))
    assert worth(point(1, log_ratio=0.01), point(2, log_ratio=0.10))
    assert not worth(point(1, log_ratio=0.01, se=0.05), point(2, log_ratio=0.10, se=0.05))
    assert worth(point(1, memory_peak_bytes=MIB), point(2, memory_peak_bytes=2 * MIB))
    assert worth(point(1), point(2, status="wrong"))


def _commit(number: int) -> Commit:
    return Commit(revision=revision(number), place=number, date="", subject="")
