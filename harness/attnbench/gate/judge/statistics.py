"""Decisions in two stages: screen all cells, then confirm suspects on fresh pairs only.

A narrow interval is no proof: a change is believable if it shows again in fresh processes. The data that raised a
suspicion are therefore never used to confirm it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from scipy import optimize

from attnbench.gate.judge.inference import Effect, centre, estimate, q_values, student_quantile, student_tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from attnbench.gate.judge.inference import Matrix

Direction = Literal["slower", "faster"]
Decision = Literal["slower", "faster", "same", "ambiguous"]

SCREEN_ALPHA = 0.05
SCREEN_SHARE = 0.75
POWER = 0.95
"""Probability that a slow-down of the detectable size passes both stages."""
LEAST_CELLS_TO_CENTRE = 20
LEAST_SENTINELS_TO_CENTRE = 10
"""Fewer than for all cells: no sentinel is a suspect, so none of them biases the median."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The gate's tolerances and numbers of rounds."""

    delta: float = 0.03
    """Relative change of time that is tolerated, in both directions."""
    memory: float = 0.005
    """Relative increase of peak memory that is tolerated; 64 KiB and twice the method's resolution always are."""
    exponent: float = 0.1
    """Tolerated difference of the exponents of growth with the length."""
    q: float = 0.05
    """Tolerated share of false ones among the reported changes."""
    screen_rounds: int = 4
    confirm_rounds: int = 6
    sentinels: int = 16
    """Number of unsuspected cells measured again with the suspects, to estimate the shift that all cells share."""
    resolve: float = 0.10
    """A cell whose smallest detectable slow-down exceeds this (or twice its delta) is ambiguous rather than same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screened:
    """The result of the first stage."""

    effects: list[Effect | None]
    """Centred; ``None`` for cells with too few pairs."""
    shift: Effect | None
    """The change that all cells share; ``None`` with too few cells to estimate it."""
    suspects: dict[int, Direction]
    shift_suspect: Direction | None

    @property
    def needs_confirming(self) -> bool:
        """Whether a second stage is needed."""
        return bool(self.suspects) or self.shift_suspect is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decided:
    """The decision on one cell (or on the common shift), with the statistics behind it."""

    decision: Decision
    effect: Effect
    delta: float
    q: float | None
    """False discovery rate; ``None`` unless tested on fresh pairs as a suspect."""
    p: float
    """One-sided, against ``1 + delta``, in the direction of the estimate."""
    detectable: float
    """Smallest slow-down that both stages detect with 95 % probability."""
    confirmed_on_fresh_pairs: bool
    suspicious: bool
    """Whether the final estimate still looks like a change, certain or not."""


def screen(logs: Matrix, rules: Rules, deltas: Mapping[int, float] | None = None) -> Screened:
    """Screen log ratios of shape (cells, rounds) for suspects; ``deltas`` are tolerances by row."""
    return screen_effects(*effects_of(logs), rules, deltas)


def screen_effects(
    effects: list[Effect | None], shift: Effect | None, rules: Rules, deltas: Mapping[int, float] | None = None
) -> Screened:
    """Screen effects and the common shift, as :func:`screen` does for log ratios."""
    suspects = {
        row: direction
        for row, effect in enumerate(effects)
        if effect is not None and (direction := suspicion(effect, _delta(rules, deltas, row)))
    }
    return Screened(
        effects=effects,
        shift=shift,
        suspects=suspects,
        shift_suspect=suspicion(shift, rules.delta) if shift else None,
    )


def suspicion(effect: Effect, delta: float) -> Direction | None:
    """Return the direction of an effect that differs from zero at 5 % and comes near its tolerance, else ``None``."""
    near = SCREEN_SHARE * math.log1p(delta)
    if effect.mean > near and effect.p_slower() < SCREEN_ALPHA:
        return "slower"
    if effect.mean < -near and effect.p_faster() < SCREEN_ALPHA:
        return "faster"
    return None


def choose_sentinels(screened: Screened, rules: Rules, rng: np.random.Generator) -> list[int]:
    """Choose unsuspected cells at random that go through the second stage as well."""
    free = [row for row, effect in enumerate(screened.effects) if effect is not None and row not in screened.suspects]
    count = min(rules.sentinels, len(free))
    return sorted(int(row) for row in rng.choice(free, size=count, replace=False)) if count else []


def decide(
    screened: Screened,
    rules: Rules,
    *,
    fresh: Sequence[Effect | None] = (),
    fresh_shift: Effect | None = None,
    deltas: Mapping[int, float] | None = None,
) -> tuple[list[Decided | None], Decided | None]:
    """Decide on every cell and on the common shift.

    Args:
        screened: result of the first stage.
        rules: the gate's tolerances.
        fresh: effects of the second stage (:func:`effects_of`), ``None`` for cells that were not measured again.
        fresh_shift: the common shift of the second stage.
        deltas: as in :func:`screen`.
    """
    effects = list(fresh) or [None] * len(screened.effects)
    shift = fresh_shift
    suspects = {row: direction for row, direction in screened.suspects.items() if effects[row] is not None}
    p_values = [_p(effects[row], direction, _delta(rules, deltas, row)) for row, direction in suspects.items()]
    shift_counts = screened.shift_suspect is not None and shift is not None
    if shift_counts:
        p_values.append(_p(shift, screened.shift_suspect, rules.delta))
    qs = q_values(p_values)
    q_of = dict(zip(suspects, qs, strict=False))
    tests = max(1, len(p_values))
    decided = [
        None
        if first is None
        else _decided(
            first, effects[row], screened.suspects.get(row), q_of.get(row), _delta(rules, deltas, row), rules, tests
        )
        for row, first in enumerate(screened.effects)
    ]
    if screened.shift is None:
        return decided, None
    q_of_shift = qs[-1] if shift_counts else None
    return decided, _decided(screened.shift, shift, screened.shift_suspect, q_of_shift, rules.delta, rules, tests)


def _decided(
    first: Effect,
    second: Effect | None,
    suspected: Direction | None,
    q: float | None,
    delta: float,
    rules: Rules,
    tests: int,
) -> Decided:
    final = second if suspected and second is not None else first
    smallest = max(smallest_detectable(effect, delta, rules, tests) for effect in (first, final))
    left = suspicion(final, delta) is not None
    blind = smallest > max(rules.resolve, 2 * delta)
    if suspected and q is not None and q <= rules.q:
        decision: Decision = suspected
    else:
        decision = "ambiguous" if left or blind else "same"
    direction: Direction = "slower" if final.mean >= 0 else "faster"
    return Decided(
        decision=decision,
        effect=final,
        delta=delta,
        q=q,
        p=_p(final, direction, delta),
        detectable=smallest,
        confirmed_on_fresh_pairs=bool(suspected) and second is not None,
        suspicious=left,
    )


def smallest_detectable(effect: Effect, delta: float, rules: Rules, tests: int = 1) -> float:
    """Return the smallest slow-down that passes both stages with a probability of 95 %.

    Args:
        effect: gives the spread; its mean is not used.
        delta: tolerated change.
        rules: numbers of rounds of both stages.
        tests: number of hypotheses in the second stage; a lone true one among them must reach ``rules.q / tests``.
    """
    se_screen, se_confirm = (
        effect.sd / math.sqrt(rounds) for rounds in (rules.screen_rounds, rules.confirm_rounds)
    )  # fmt: skip
    if effect.sd <= 0:
        return delta
    near = max(SCREEN_SHARE * math.log1p(delta), student_quantile(1 - SCREEN_ALPHA, effect.df) * se_screen)
    sure = math.log1p(delta) + student_quantile(1 - rules.q / tests, effect.df) * se_confirm

    def lacking(size: float) -> float:
        screened = student_tail((near - size) / se_screen, effect.df)
        return screened * student_tail((sure - size) / se_confirm, effect.df) - POWER

    most = max(near, sure) + 2 * student_quantile(math.sqrt(POWER), effect.df) * max(se_screen, se_confirm)
    return math.expm1(float(optimize.brentq(lacking, 0.0, most)))


def effects_of(logs: Matrix, sentinels: Sequence[int] | None = None) -> tuple[list[Effect | None], Effect | None]:
    """Return the effects with each round's common shift removed, and the effect of that shift.

    Args:
        logs: log ratios, shape (cells, rounds), NaN where there is none.
        sentinels: rows that estimate the common shift; all by default. If there are too few, nothing is removed and the
            shift is ``None``.
    """
    rows = range(len(logs)) if sentinels is None else sentinels
    present = [row for row in rows if bool((logs[row] == logs[row]).any())]  # not all NaN
    least = LEAST_CELLS_TO_CENTRE if sentinels is None else LEAST_SENTINELS_TO_CENTRE
    if len(present) < least:
        return estimate(logs), None
    centred, shifts = centre(logs, present)
    return estimate(centred), estimate(shifts[None, :])[0]


def _p(effect: Effect | None, direction: Direction | None, delta: float) -> float:
    if effect is None:
        return 1.0
    return effect.p_slower(delta) if direction == "slower" else effect.p_faster(delta)


def _delta(rules: Rules, deltas: Mapping[int, float] | None, row: int) -> float:
    return (deltas or {}).get(row, rules.delta)
