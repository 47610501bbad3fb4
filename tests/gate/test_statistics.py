"""The two stages under a noise model: false-alarm rate and power, as quoted in docs/gate.md."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.gate.judge.inference import Effect
from attnbench.gate.judge.statistics import (
    Rules,
    choose_sentinels,
    decide,
    effects_of,
    screen,
    smallest_detectable,
    suspicion,
)
from tests.gate.simulated import DEDICATED, SHARED, Noise, one_gate

CHANGED = 3


def found(noise: Noise, rules: Rules, change: float, *, cells: int = 30, gates: int = 60) -> float:
    """Return the share of changed cells that are called slower."""
    rng = np.random.default_rng(1)
    effects = np.zeros(cells)
    effects[:CHANGED] = math.log1p(change)
    decided = [one for _ in range(gates) for one in one_gate(rng, effects, noise, rules)[0][:CHANGED]]
    return sum(one is not None and one.decision == "slower" for one in decided) / len(decided)


@pytest.mark.parametrize(("noise", "delta"), [(DEDICATED, 0.03), (SHARED, 0.05), (SHARED, 0.03)])
@pytest.mark.parametrize("cells", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_unchanged_code_raises_no_alarm(noise: Noise, delta: float, cells: int) -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(100):
        decided, shift = one_gate(rng, np.zeros(cells), noise, Rules(delta=delta))
        assert shift is not None
        alarms += any(one is None or one.decision in ("slower", "faster") for one in (*decided, shift))
    assert alarms <= 1


@pytest.mark.parametrize(
    ("noise", "delta", "change", "least"),
    [
        (DEDICATED, 0.03, 0.05, 0.95),
        (DEDICATED, 0.03, 0.10, 1.0),
        (SHARED, 0.05, 0.08, 0.80),
        (SHARED, 0.05, 0.10, 0.97),
        (SHARED, 0.05, 0.15, 1.0),
        (SHARED, 0.03, 0.10, 1.0),
    ],
)
def test_slow_downs_are_found(noise: Noise, delta: float, change: float, least: float) -> None:
    assert found(noise, Rules(delta=delta), change) >= least


def test_a_slow_down_within_what_is_tolerated_is_not_reported() -> None:
    assert found(DEDICATED, Rules(delta=0.03), 0.02) == 0


def test_a_change_of_everything_is_one_finding_and_no_cell_of_its_own() -> None:
    rng = np.random.default_rng(4)
    decided, shift = one_gate(rng, np.full(30, math.log1p(0.10)), DEDICATED, Rules())
    assert shift is not None
    assert shift.decision == "slower"
    assert shift.effect.ratio == pytest.approx(1.10, abs=0.02)
    assert all(one is not None and one.decision == "same" for one in decided)


def test_a_suspicion_that_does_not_come_back_is_dropped() -> None:
    rng = np.random.default_rng(6)
    rules = Rules()
    logs = 0.007 * rng.standard_normal((30, 4))
    logs[0] += 0.10
    screened = screen(logs, rules)
    assert screened.suspects == {0: "slower"}
    fresh = 0.007 * rng.standard_normal((30, 8))
    effects, shift = effects_of(fresh, range(1, 30))
    decided, _ = decide(screened, rules, fresh=effects, fresh_shift=shift)
    assert decided[0] is not None
    assert decided[0].decision == "same"
    assert decided[0].effect.ratio == pytest.approx(1.0, abs=0.01), "only the fresh pairs count"


def test_a_suspect_that_was_not_measured_again_is_ambiguous() -> None:
    rng = np.random.default_rng(6)
    logs = 0.007 * rng.standard_normal((30, 4))
    logs[0] += 0.10
    decided, _ = decide(screen(logs, Rules()), Rules())
    assert decided[0] is not None
    assert decided[0].decision == "ambiguous"
    assert decided[0].q is None


def test_a_cell_in_which_ten_percent_could_hide_is_not_called_the_same() -> None:
    rng = np.random.default_rng(9)
    decided, _ = decide(screen(0.15 * rng.standard_normal((30, 4)), Rules()), Rules())
    assert all(one is not None and one.decision == "ambiguous" for one in decided)
    assert all(one is not None and one.detectable > 0.10 for one in decided)


def test_a_cell_called_the_same_seldom_hides_what_it_says_it_would_have_found() -> None:
    rng = np.random.default_rng(12)
    rules = Rules(delta=0.03)
    missed = 0
    for _ in range(100):
        effects = np.zeros(30)
        effects[:CHANGED] = math.log1p(0.05)
        decided, _ = one_gate(rng, effects, Noise(pair=0.015, common=0.01), rules)
        missed += sum(d is not None and d.decision == "same" and d.detectable < 0.05 for d in decided[:CHANGED])
    assert missed <= 0.01 * 100 * CHANGED


def test_few_cells_are_not_centred_because_their_median_is_noise() -> None:
    screened = screen(np.full((5, 4), 0.2) + 0.001 * np.arange(4), Rules())
    assert screened.shift is None
    assert set(screened.suspects) == set(range(5))


def test_sentinels_are_cells_without_suspicion() -> None:
    rng = np.random.default_rng(6)
    logs = 0.007 * rng.standard_normal((50, 4))
    logs[:5] -= 0.2
    screened = screen(logs, Rules())
    sentinels = choose_sentinels(screened, Rules(), rng)
    assert len(sentinels) == 16
    assert not set(sentinels) & set(range(5))
    assert set(screened.suspects.values()) == {"faster"}


@pytest.mark.parametrize("sd", [0.004, 0.01, 0.03])
def test_the_detectable_slow_down_passes_both_stages_nineteen_times_of_twenty(sd: float) -> None:
    rules = Rules()
    rng = np.random.default_rng(8)
    known = Effect(mean=0.0, sd=sd, df=math.inf, rounds=4)
    change = math.log1p(smallest_detectable(known, rules.delta, rules))
    passed = 0
    for _ in range(2000):
        first, second = (
            Effect(mean=change + sd / math.sqrt(n) * rng.standard_normal(), sd=sd, df=math.inf, rounds=n)
            for n in (rules.screen_rounds, rules.confirm_rounds)
        )
        passed += suspicion(first, rules.delta) == "slower" and second.p_slower(rules.delta) <= rules.q
    assert passed / 2000 == pytest.approx(0.95, abs=0.02)


def test_a_slow_down_among_many_suspects_must_be_larger_to_be_detectable() -> None:
    effect = Effect(mean=0.0, sd=0.01, df=40, rounds=4)
    assert smallest_detectable(effect, 0.03, Rules(), tests=10) > smallest_detectable(effect, 0.03, Rules()) + 0.002


def test_a_cell_of_its_own_tolerance() -> None:
    effect = Effect(mean=math.log1p(0.05), sd=0.002, df=20, rounds=4)
    assert suspicion(effect, 0.03) == "slower"
    assert suspicion(effect, 0.10) is None
    logs = 0.002 * np.random.default_rng(0).standard_normal((30, 4))
    logs[0] += math.log1p(0.05)
    assert set(screen(logs, Rules()).suspects) == {0}
    assert screen(logs, Rules(), {0: 0.10}).suspects == {}
