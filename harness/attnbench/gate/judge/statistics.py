"""Two stages from effects to decisions: screen all cells, confirm suspects on fresh pairs alone.

A tight interval is no proof: what makes a change believable is that it comes back in fresh processes. So the data that
raised a suspicion are never used to confirm it.
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
"""With which a slow-down that is called detectable passes both stages."""
LEAST_CELLS_TO_CENTRE = 20
LEAST_SENTINELS_TO_CENTRE = 10
"""Fewer than for all cells: none of the sentinels was under suspicion, so none of them pulls the median."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The tolerances of the gate, and its numbers of rounds."""

    delta: float = 0.03
    """Changes up to this share of 1 are tolerated, in both directions."""
    memory: float = 0.005
    """Peak memory that may be added, as a share of base; 64 KiB and twice the method's resolution always may."""
    exponent: float = 0.1
    """By how much the exponent of growth with the length may differ."""
    q: float = 0.05
    """The share of reported changes that may be false."""
    screen_rounds: int = 4
    confirm_rounds: int = 6
    sentinels: int = 16
    """Cells without suspicion that are measured again beside the suspects, to know what the rounds have in common."""
    resolve: float = 0.10
    """A cell whose smallest detectable slow-down is above this (or twice its delta) is ambiguous instead of same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screened:
    """The result of the first stage."""

    effects: list[Effect | None]
    """Centred; ``None`` for cells with too few pairs."""
    shift: Effect | None
    """The change that all cells share; ``None`` with too few cells to tell."""
    suspects: dict[int, Direction]
    shift_suspect: Direction | None

    @property
    def needs_confirming(self) -> bool:
        """Whether a second stage is due."""
        return bool(self.suspects) or self.shift_suspect is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decided:
    """The decision on one cell (or on the common shift), with the numbers that it rests on."""

    decision: Decision
    effect: Effect
    delta: float
    q: float | None
    """Only of suspects: the others were not tested on fresh pairs."""
    p: float
    """One-sided, against ``1 + delta``, in the direction of the estimate."""
    detectable: float
    """The smallest slow-down that these two stages find in nineteen gates of twenty."""
    confirmed_on_fresh_pairs: bool
    suspicious: bool
    """Whether the final estimate still looks like a change, sure or not."""


def screen(logs: Matrix, rules: Rules, deltas: Mapping[int, float] | None = None) -> Screened:
    """Which cells deserve a second look, from log ratios, shape (cells, rounds); ``deltas`` are tolerances by row."""
    return screen_effects(*effects_of(logs), rules, deltas)


def screen_effects(
    effects: list[Effect | None], shift: Effect | None, rules: Rules, deltas: Mapping[int, float] | None = None
) -> Screened:
    """Like :func:`screen`, from effects and the shift that all cells have in common."""
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
    """Whether an effect differs from none at 5 %, and comes near to what is tolerated."""
    near = SCREEN_SHARE * math.log1p(delta)
    if effect.mean > near and effect.p_slower() < SCREEN_ALPHA:
        return "slower"
    if effect.mean < -near and effect.p_faster() < SCREEN_ALPHA:
        return "faster"
    return None


def choose_sentinels(screened: Screened, rules: Rules, rng: np.random.Generator) -> list[int]:
    """Cells without suspicion that go through the second stage, too."""
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
    """Decide on every cell, and on the common shift.

    Args:
        screened: the first stage.
        rules: the gate's.
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
    """The smallest slow-down that passes both stages, one after the other, with a power of 95 %.

    Args:
        effect: its spread; the mean does not matter.
        delta: tolerated change.
        rules: how many rounds the stages have.
        tests: how many hypotheses the second stage has: a lone true one among them must reach ``rules.q / tests``.
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
    """Effects without what a round's cells have in common, and the effect of that common shift.

    Args:
        logs: log ratios, shape (cells, rounds), NaN where there is none.
        sentinels: rows that tell the common shift; default all. With too few of them nothing is removed, and the
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
