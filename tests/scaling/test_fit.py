"""Laws of growth: on curves with a known law, intervals contain the truth at their nominal rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from attnbench.scaling import Refusal, Scaling, fit_scaling

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LENGTHS = [128 * 2**i for i in range(8)]
TRIALS = 100
NOMINAL = (0.90, 0.99)
"""Range of the coverage: 95 % of 100 trials, plus and minus 2.3 standard errors."""

FLOOR_NS = 20_000.0


def quadratic(n: Array) -> Array:
    """Return 20 µs of launch plus 0.5 ns per pair; a straight line through the logarithms would give n^0.5."""
    return FLOOR_NS + 0.5 * n**2


def linear(n: Array) -> Array:
    return 1e6 + 512 * n


def step(n: Array) -> Array:
    return np.where(n >= 4096, 1.6, 1.0)


def outlier(n: Array) -> Array:
    return np.where(n == 2048, 1.4, 1.0)


def curve(law: Callable[[Array], Array], noise: float, processes: int, rng: np.random.Generator) -> list[list[float]]:
    """Return the values of each length, one per process; each process has its own level in addition to noise."""
    n = np.array(LENGTHS, np.float64)
    level = rng.normal(0, noise, processes)
    logs = np.log(law(n))[:, None] + level + rng.normal(0, noise, (len(n), processes))
    values: list[list[float]] = np.exp(logs).tolist()
    return values


def fitted(law: Callable[[Array], Array], noise: float, processes: int, seed: int, trials: int) -> list[Scaling]:
    rng = np.random.default_rng(seed)
    found = [fit_scaling(LENGTHS, curve(law, noise, processes, rng)) for _ in range(trials)]
    laws = [one for one in found if isinstance(one, Scaling)]
    assert len(laws) == trials
    return laws


@pytest.mark.parametrize(
    ("law", "exponent", "noise", "processes"),
    [
        pytest.param(quadratic, 2.0, 0.01, 6, id="quadratic over a floor, six processes"),
        pytest.param(quadratic, 2.0, 0.03, 3, id="three noisy processes"),
        pytest.param(quadratic, 2.0, 0.02, 1, id="a single process"),
        pytest.param(linear, 1.0, 0.002, 6, id="memory"),
        pytest.param(lambda n: quadratic(n) * step(n), 2.0, 0.01, 6, id="a step"),
        pytest.param(lambda n: quadratic(n) * outlier(n), 2.0, 0.01, 6, id="an outlier"),
    ],
)
def test_the_exponent_s_interval_holds_the_truth_at_its_nominal_rate(
    law: Callable[[Array], Array], exponent: float, noise: float, processes: int
) -> None:
    laws = fitted(law, noise, processes, seed=11, trials=TRIALS)
    held = sum(one.exponent.low <= exponent <= one.exponent.high for one in laws) / TRIALS
    assert NOMINAL[0] <= held <= NOMINAL[1]
    widths = [one.exponent.high - one.exponent.low for one in laws]
    assert max(widths) < 0.5, "an interval that holds everything says nothing"


def test_the_floor_s_and_the_crossover_s_intervals_hold_the_truth_too() -> None:
    laws = fitted(quadratic, 0.01, 6, seed=12, trials=TRIALS)
    floors = [one.floor for one in laws if one.floor]
    meets = [one.crossover for one in laws if one.crossover]
    truth = math.sqrt(FLOOR_NS / 0.5)
    assert len(floors) > 0.85 * TRIALS
    assert sum(f.low <= FLOOR_NS <= f.high for f in floors) / len(floors) >= NOMINAL[0]
    assert sum(m.low <= truth <= m.high for m in meets) / len(meets) >= NOMINAL[0]


def test_cliffs_are_found_where_they_are_with_their_size_and_nowhere_else() -> None:
    def single(law: Callable[[Array], Array]) -> list[tuple[str, int]]:
        (found,) = fitted(law, 0.01, 6, seed=13, trials=1)
        for cliff in found.cliffs:
            assert cliff.factor == pytest.approx(1.6 if cliff.kind == "step" else 1.4, rel=0.05)
        return [(cliff.kind, cliff.length) for cliff in found.cliffs]

    assert single(lambda n: quadratic(n) * step(n)) == [("step", 4096)]
    assert single(lambda n: quadratic(n) * outlier(n)) == [("outlier", 2048)]
    plain = fitted(quadratic, 0.02, 1, seed=14, trials=60)
    assert sum(bool(one.cliffs) for one in plain) <= 3


def test_the_law_is_chosen_by_what_the_sizes_support() -> None:
    def law_of(law: Callable[[Array], Array]) -> str:
        (found,) = fitted(law, 0.01, 6, seed=15, trials=1)
        return found.law.name

    assert law_of(quadratic) == "power"
    assert law_of(lambda n: 5e3 + 200 * n + 0.1 * n**2) == "quadratic"
    assert law_of(lambda n: 5e3 + 20 * n * np.log(n)) == "n_log_n"


def test_the_local_exponent_is_what_the_last_doubling_costs_whatever_the_law() -> None:
    laws = fitted(lambda n: 5e3 + 200 * n + 0.1 * n**2, 0.01, 6, seed=16, trials=60)
    high, low = (5e3 + 200 * n + 0.1 * n**2 for n in (LENGTHS[-1], LENGTHS[-2]))
    truth = math.log2(high / low)
    held = [one.local_exponent.low <= truth <= one.local_exponent.high for one in laws]
    assert sum(held) / len(held) >= NOMINAL[0]


def test_a_prediction_follows_the_law_and_its_steps_and_finds_the_length_within_a_budget() -> None:
    (found,) = fitted(lambda n: linear(n) * step(n), 0.0005, 6, seed=17, trials=1)
    assert found.predicted(65_536) == pytest.approx(1.6 * (1e6 + 512 * 65_536), rel=0.02)
    assert found.largest_within(1.6 * (1e6 + 512 * 65_536)) == pytest.approx(65_536, rel=0.02)
    assert found.largest_within(1e3) is None


def test_too_few_sizes_and_too_short_a_range_above_the_floor_are_refused_with_a_sentence() -> None:
    few = fit_scaling([128, 256, 512, 1024], [[1.0]] * 4)
    assert isinstance(few, Refusal)
    assert few.reason == "4 sizes are too few for a law: it takes 5"
    n = np.array(LENGTHS, np.float64)
    buried = fit_scaling(LENGTHS, (1e8 + 0.5 * n**2)[:, None].tolist())
    assert isinstance(buried, Refusal)
    assert "above the floor: it takes 8x" in buried.reason
    assert buried.local_exponent is not None


def test_a_constant_has_no_law() -> None:
    assert isinstance(fit_scaling(LENGTHS, [[7.0, 7.0, 7.0]] * 8), Refusal)


def test_order_does_not_matter_and_missing_processes_do_not_break_it() -> None:
    values = curve(quadratic, 0.01, 3, np.random.default_rng(18))
    whole = fit_scaling(LENGTHS, values)
    turned = fit_scaling(LENGTHS[::-1], values[::-1])
    assert whole == turned
    ragged = fit_scaling(LENGTHS, [values[0][:2], *values[1:]])
    assert isinstance(ragged, Scaling)
    assert "scatter of 8 sizes" in ragged.method


def test_equal_processes_cannot_make_the_interval_vanish() -> None:
    """Memory is equal in all processes, but its page-sized steps are not part of the law."""
    n = np.array(LENGTHS, np.float64)
    peaks = np.ceil(700 * n / 131_072) * 131_072
    found = fit_scaling(LENGTHS, [[p] * 6 for p in peaks.tolist()])
    assert isinstance(found, Scaling | Refusal)
    if isinstance(found, Scaling):
        assert found.exponent.high - found.exponent.low > 0.05
