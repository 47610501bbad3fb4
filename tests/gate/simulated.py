"""Gates on numbers from a noise model: pairs have independent noise, and all cells of a round share a shift."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.gate.judge.statistics import Decided, Rules, choose_sentinels, decide, effects_of, screen

if TYPE_CHECKING:
    from attnbench.gate.judge.inference import Matrix


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviations of log ratios."""

    pair: float
    common: float


DEDICATED = Noise(pair=0.007, common=0.005)
SHARED = Noise(pair=0.025, common=0.03)


def one_gate(
    rng: np.random.Generator, effects: Matrix, noise: Noise, rules: Rules
) -> tuple[list[Decided | None], Decided | None]:
    """Screen and, if cells are suspected, confirm; ``effects`` are the true log ratios."""

    def rounds(count: int) -> Matrix:
        own = noise.pair * rng.standard_normal((len(effects), count))
        return np.asarray(effects[:, None] + own + noise.common * rng.standard_normal(count))

    screened = screen(rounds(rules.screen_rounds), rules)
    if not screened.needs_confirming:
        return decide(screened, rules)
    sentinels = choose_sentinels(screened, rules, rng)
    fresh = rounds(rules.confirm_rounds)
    again = {*sentinels, *screened.suspects}
    fresh[[row for row in range(len(effects)) if row not in again]] = np.nan
    effects_again, shift_again = effects_of(fresh, sentinels)
    return decide(screened, rules, fresh=effects_again, fresh_shift=shift_again)
