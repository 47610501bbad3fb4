"""Each part of the statistics, compared with numbers known by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from attnbench.gate.judge.inference import (
    Effect,
    centre,
    estimate,
    estimate_unpaired,
    prior_of,
    q_values,
    student_quantile,
    student_tail,
    trigamma_inverse,
)


def test_a_ratio_and_its_interval_are_those_of_the_one_sample_t_test() -> None:
    pairs = np.log([1.04, 1.06, 1.05, 1.09, 1.02])
    (effect,) = estimate(pairs[None, :])  # with a single cell nothing is moderated
    assert effect is not None
    whole = stats.ttest_1samp(pairs, 0.0, alternative="greater")
    assert effect.p_slower() == pytest.approx(whole.pvalue)
    low, high = stats.ttest_1samp(pairs, 0.0).confidence_interval(0.95)
    assert effect.interval() == pytest.approx((math.exp(low), math.exp(high)))
    assert effect.ratio == pytest.approx(stats.gmean([1.04, 1.06, 1.05, 1.09, 1.02]))


def test_a_tolerated_change_moves_the_hypothesis_and_not_the_estimate() -> None:
    pairs = np.log([1.04, 1.06, 1.05, 1.09, 1.02])
    (effect,) = estimate(pairs[None, :])
    assert effect is not None
    expected = stats.ttest_1samp(pairs, math.log(1.03), alternative="greater").pvalue
    assert effect.p_slower(0.03) == pytest.approx(expected)


def test_faster_is_the_mirror_of_slower() -> None:
    slower = Effect(mean=0.06, sd=0.02, df=7, rounds=4)
    faster = Effect(mean=-0.06, sd=0.02, df=7, rounds=4)
    assert slower.p_slower(0.03) == faster.p_faster(0.03)
    assert slower.p_faster(0.03) > 0.99


@pytest.mark.parametrize("df", [1.0, 3.5, 40.0, math.inf])
def test_student_quantile_undoes_student_tail(df: float) -> None:
    assert student_tail(student_quantile(0.95, df), df) == pytest.approx(0.05)


@pytest.mark.parametrize("value", [1e-4, 0.02, 0.5, 1.0, 7.0, 1e3, 1e6])
def test_trigamma_inverse_undoes_trigamma(value: float) -> None:
    assert float(special.polygamma(1, trigamma_inverse(value))) == pytest.approx(value, rel=1e-6)


def test_the_prior_is_found_again_in_variances_that_were_drawn_from_it() -> None:
    rng = np.random.default_rng(3)
    df, prior_df, prior_variance = 3.0, 8.0, 4e-4
    true = prior_variance * prior_df / rng.chisquare(prior_df, 20_000)
    drawn = true * rng.chisquare(df, 20_000) / df
    prior = prior_of(drawn, np.full(20_000, df))
    assert prior.df == pytest.approx(prior_df, rel=0.1)
    assert prior.variance == pytest.approx(prior_variance, rel=0.03)


def test_variances_that_scatter_no_more_than_chance_have_one_common_value() -> None:
    # All equal: less scatter than chi-square variances have.
    prior = prior_of(np.full(50, 2e-4), np.full(50, 3.0))
    assert math.isinf(prior.df)


def test_a_prior_needs_three_cells_and_some_spread() -> None:
    assert prior_of(np.array([1.0, 2.0]), np.array([3.0, 3.0])).df == 0
    assert prior_of(np.zeros(10), np.full(10, 3.0)).df == 0


def test_moderation_draws_a_lucky_cell_up_and_an_unlucky_one_down() -> None:
    rng = np.random.default_rng(5)
    logs = 0.02 * rng.standard_normal((60, 4))
    logs[0] = [0.05, 0.0501, 0.0499, 0.05]  # by luck, hardly any spread
    logs[1] *= 6
    raw = logs.std(axis=1, ddof=1)
    effects = estimate(logs)
    assert effects[0] is not None
    assert effects[0].sd > 20 * raw[0]
    assert effects[1] is not None
    assert effects[1].sd < raw[1]
    assert effects[0].df > 3


def test_degrees_of_freedom_never_exceed_those_of_all_cells_together() -> None:
    logs = np.tile([0.01, -0.01, 0.02, -0.02], (5, 1))  # equal variances: an infinite prior
    assert [effect and effect.df for effect in estimate(logs)] == [15] * 5


def test_a_cell_with_fewer_than_three_pairs_has_no_effect_and_others_use_what_they_have() -> None:
    nan = math.nan
    effects = estimate(np.array([[0.1, nan, nan, 0.1], [0.1, 0.11, nan, 0.09], [0.1, 0.12, 0.08, 0.1]]))
    assert effects[0] is None
    assert [effect.rounds for effect in effects[1:] if effect] == [3, 4]


def test_centring_removes_what_a_round_has_in_common_and_gives_it_back() -> None:
    own = np.array([[0.0, 0.0], [0.01, -0.01], [-0.01, 0.01]])
    centred, shifts = centre(own + np.array([0.3, -0.2]))
    assert shifts == pytest.approx([0.3, -0.2])
    assert centred == pytest.approx(own)


def test_centring_on_sentinels_ignores_the_suspects() -> None:
    logs = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.1, 0.2], [0.1, 0.2]])
    _, shifts = centre(logs, reference=[3, 4])
    assert shifts == pytest.approx([0.1, 0.2])


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    assert q_values([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.04, 0.04, 0.5])
    assert q_values([]) == []


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    held = total = 0
    for _ in range(60):
        spread = 0.02 * np.sqrt(6 / rng.chisquare(6, 40))  # cells differ in how noisy they are
        for effect in estimate(0.04 + spread[:, None] * rng.standard_normal((40, 4))):
            assert effect is not None
            low, high = effect.interval(0.95)
            held += low <= math.exp(0.04) <= high
            total += 1
    assert held / total == pytest.approx(0.95, abs=0.015)


def test_p_values_of_unchanged_cells_are_uniform() -> None:
    rng = np.random.default_rng(8)
    p = [
        effect.p_slower()
        for _ in range(50)
        for effect in estimate(0.02 * rng.standard_normal((40, 4)))
        if effect is not None
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_pairs_without_any_spread_are_certain_rather_than_undefined() -> None:
    (effect,) = estimate(np.full((1, 4), math.log(1.2)))
    assert effect is not None
    assert effect.p_slower(0.03) < 1e-20
    assert effect.interval() == pytest.approx((1.2, 1.2))


def test_unpaired_processes_give_the_t_test_of_equal_variances() -> None:
    base, head = np.log([1.0, 1.02, 0.99, 1.01, 1.0, 0.98]), np.log([1.10, 1.12, 1.09, 1.11])
    padded = np.append(head, [math.nan, math.nan])
    (effect,) = estimate_unpaired(base[None, :], padded[None, :])
    assert effect is not None
    expected = stats.ttest_ind(head, base, alternative="greater")
    assert effect.p_slower() == pytest.approx(expected.pvalue)
    assert effect.df == 8


def test_unpaired_cells_need_three_processes_on_each_side() -> None:
    two, four = np.log([[1.0, 1.1]]), np.log([[1.0, 1.1, 1.05, 1.02]])
    assert estimate_unpaired(two, four) == [None]
    assert estimate_unpaired(four, two) == [None]
