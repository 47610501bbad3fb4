"""Candidates in simulated histories, and the gate's verdicts on them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from attnbench.gate.judge.statistics import Rules
from attnbench.history.changes.candidates import candidates, of_readings, of_times
from attnbench.history.changes.change_points import ChangePointError, Step, q_values, scatter, steps, without_spikes
from tests.history.lines import MIB, point, revision
from tests.history.simulated import KINDS, Kind, search, series_of, stepped

pytest.importorskip("ruptures", reason="attnbench[history] is not installed")
WHITE, NOISY = KINDS[0], KINDS[3]


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def sure(truth: NDArray[np.float64], kind: Kind, seed: int = 5) -> list[Step]:
    """Return the steps of a series that chance does not explain."""
    return [step for step in steps(series_of(truth, kind, rng(seed))) if step.p < 0.001]


def test_a_step_is_placed_and_sized() -> None:
    (one,) = sure(stepped(0.10, 23), WHITE)
    assert one.earliest <= 23 <= one.latest
    assert one.latest - one.earliest <= 1
    assert abs(one.size - math.log(1.10)) < 3 * 0.01 / math.sqrt(20)


def test_the_less_sure_the_place_the_wider_its_range() -> None:
    def width(size: float) -> int:
        return sum(step.latest - step.earliest for seed in range(8) for step in sure(stepped(size, 30), NOISY, seed))

    assert width(0.06) > 2 * width(0.12)


def test_two_steps_are_two() -> None:
    truth = stepped(0.10, 20) + stepped(-0.08, 40)
    assert [step.at for step in sure(truth, WHITE)] == [20, 40]


def test_the_newest_commit_is_suspected_by_itself() -> None:
    """A step of four standard errors in one point; PELT alone needs two points."""
    quiet = dataclasses.replace(series_of(stepped(0, 1), WHITE, rng()), logs=stepped(0.046, 59))
    assert [step.at for step in steps(quiet) if step.p < 0.01] == [59]


def test_spikes_go_and_steps_stay() -> None:
    logs = np.array([0.0, 0.01, 0.3, 0.0, -0.01, 0.1, 0.11, 0.1, 0.09])
    cleaned = without_spikes(logs, np.full(9, 0.01))
    assert cleaned[2] < 0.02
    assert cleaned[[0, 1, 3, 4, 5, 6, 7, 8]].tolist() == logs[[0, 1, 3, 4, 5, 6, 7, 8]].tolist()


def test_points_that_scatter_more_than_they_say_are_believed_less() -> None:
    logs = rng().normal(0, 0.05, 400)
    assert scatter(logs, np.full(400, 0.01**2)) == pytest.approx(25, rel=0.25)
    assert scatter(logs, np.full(400, 1.0)) == 1.0


def test_a_short_series_has_no_step() -> None:
    assert steps(series_of(stepped(0.5, 2, count=3), WHITE, rng())) == []


def test_the_more_cells_are_searched_the_surer_a_step_must_be() -> None:
    step = Step(at=3, earliest=3, latest=3, size=0.1, se=0.03, p=0.01)
    assert q_values([[step]]) == [[pytest.approx(0.01)]]
    assert q_values([[step], *[[] for _ in range(9)]])[0] == [pytest.approx(0.1)]
    assert q_values([]) == []


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ChangePointError, match=r"pip install 'attnbench\[history\]'"):
        steps(series_of(stepped(0, 1), WHITE, rng()))


def test_a_candidate_names_measured_revisions_around_the_change() -> None:
    (one,) = of_times([series_of(stepped(0.10, 23), WHITE, rng())], Rules())
    assert int(one.good) < 23 <= int(one.bad)
    assert one.verdicts == {"slower"}
    assert one.size == pytest.approx(0.10, abs=0.02)
    (other,) = of_times([series_of(stepped(-0.10, 23), WHITE, rng())], Rules())
    assert other.verdicts == {"faster"}


def test_a_step_below_what_is_tolerated_is_no_candidate_but_a_creep_of_several_is() -> None:
    small = stepped(0.02, 20)
    assert of_times([series_of(small, WHITE, rng())], Rules(delta=0.05)) == []
    creep = small + stepped(0.02, 35) + stepped(0.02, 50)
    (one,) = of_times([series_of(creep, WHITE, rng())], Rules(delta=0.05))
    assert int(one.good) < 20
    assert int(one.bad) >= 50
    assert one.size == pytest.approx(1.02**3 - 1, abs=0.015)


def test_memory_changes_by_the_rule_of_the_gate() -> None:
    def peaks(*kib: int) -> list[object]:
        points = [
            point(i, memory_peak_bytes=size * 1024, memory_resolution_bytes=8 * 1024) for i, size in enumerate(kib)
        ]
        return [(one.good, one.bad, set(one.verdicts)) for one in of_readings(points, Rules())]

    assert peaks(1024, 1024, 2048, 2048, 1024) == [
        (revision(1), revision(2), {"bigger"}), (revision(3), revision(4), {"smaller"})
    ]  # fmt: skip
    assert peaks(1024, 1024 + 60) == [], "below 64 KiB"
    assert peaks(100 * 1024, 100 * 1024 + 400) == [], "below half a percent"


def test_outcomes_that_say_nothing_are_passed_over() -> None:
    states = ["ok", "invalid", "wrong", "skipped", "ok", "unsupported"]
    found = of_readings([point(i, status=status) for i, status in enumerate(states)], Rules())
    assert [(one.good, one.bad, set(one.verdicts)) for one in found] == [
        (revision(0), revision(2), {"wrong", "lost"}),
        (revision(2), revision(4), {"gained"}),
        (revision(4), revision(5), {"wrong", "lost"}),
    ]


def test_nothing_is_compared_across_segments() -> None:
    points = [point(i, memory_peak_bytes=MIB * (1 + i // 3), segment=f"s{i // 3}") for i in range(6)]
    assert candidates(points, Rules()) == []


@pytest.mark.parametrize("kind", KINDS[:6], ids=lambda kind: kind.title)
def test_an_unchanged_history_raises_no_alarm(kind: Kind) -> None:
    """No gate confirms a suspicion. The committed table has 500 histories of each kind (make history-power)."""
    outcomes = [search(stepped(0, 1), kind, rng(seed)) for seed in range(6)]
    assert [one.named for one in outcomes] == [[]] * 6


@pytest.mark.parametrize(("kind", "size"), [(WHITE, 0.05), (WHITE, 0.10), (NOISY, 0.10)])
def test_a_step_is_named(kind: Kind, size: float) -> None:
    named = [search(stepped(size, 31), kind, rng(seed)).named for seed in range(6)]
    assert sum(31 in one for one in named) >= 5
    assert all(set(one) <= {31} for one in named), "no other commit is"
