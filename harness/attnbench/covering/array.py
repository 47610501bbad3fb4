"""A covering array: few cases which between them have every tuple of levels that is possible.

Libraries for it (allpairspy, covertable) take constraints as rules about fields. Here :func:`make_case`, a declaration
and a hook of the implementation rule, which answer for whole cases only, and some levels are known of whole cases only.
So cases are drawn for what is still missing, as AETG does (Cohen et al., IEEE Trans. Softw. Eng. 23(7), 1997), and of
those that come out the ones that have most of it are kept.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.covering.axes import AXES
from attnbench.covering.draw import draw, seconds
from attnbench.covering.tuples import codes_of, tuples

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Declaration

_AT_ONCE = 600
"""Draws before the best are kept."""
_TRIES = {1: 100, 2: 40, 3: 3}
"""Draws for a tuple of so many levels alone, before it counts as impossible."""
_BOTH = "forward_backward"
_JOIN = (2, 10)
"""Missing tuples for a draw, at least and at most."""
_START_S = 0.15
"""Added to the time of a case when it is weighed, so that few cases are preferred to many quick ones."""
_WORSE = 0.7
"""Cases are kept until they have this part of what the best one had."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The cases that an implementation takes."""

    said: Declaration
    device: str
    seed: int
    """Seed of the cases' values."""
    takes: Callable[[Sequence[Case]], Sequence[bool]]
    """Whether each of these declared cases is taken, by what is not declared."""

    @property
    def easiest(self) -> dict[str, str]:
        """Levels with which the others are possible most often: many implementations take more without gradients."""
        return {"mode": "forward"} if "forward" in self.said.modes else {}

    def draws(self, wanted: Sequence[Mapping[str, str]], rng: random.Random) -> list[Case | None]:
        """A case for each of the wanted sets of levels, or ``None`` where none came out."""
        drawn = [draw(levels, self.said, self.device, self.seed, rng) for levels in wanted]
        there = [case for case in drawn if case is not None]
        taken = iter(self.takes(there))
        return [case if case is not None and next(taken) else None for case in drawn]


@dataclasses.dataclass(kw_only=True)
class Array:
    """Cases, and which tuples are possible."""

    cases: list[Case]
    possible: dict[int, NDArray[np.bool_]]
    """Pairs and triples that a draw has shown to be; of triples, where pairs are covered, those whose pairs are."""


def cover(space: Space, strength: int, rng: random.Random, most: int) -> Array:
    """Cases that have every pair, or every triple, of levels that is possible.

    Where that is possible, in one that tells of every mistake: it shows output and gradients, and they are not zero.

    Args:
        space: which cases there are.
        strength: 2 or 3.
        rng: where chance comes from: the same seed, the same cases.
        most: cases at which it ends, whatever is missing.
    """
    array = Array(cases=[], possible={})
    for part in (_telling(space), space):
        seen = _single_levels(part, rng)
        for level in (2, 3):
            hoped = _sums_of(seen, level)
            seen = _Search(part, level, hoped, array, rng).run(most) if level <= strength else hoped
            array.possible[level] = seen
    return array


def _telling(space: Space) -> Space:
    """The cases whose verdicts would show every mistake."""
    modes = (_BOTH,) if _BOTH in space.said.modes else space.said.modes

    def takes(cases: Sequence[Case]) -> list[bool]:
        return [taken and _is_telling(case) for case, taken in zip(cases, space.takes(cases), strict=True)]

    return dataclasses.replace(space, said=dataclasses.replace(space.said, modes=modes), takes=takes)


def _is_telling(case: Case) -> bool:
    """Whether its output is not zero whatever a kernel does: the sink leaves the keys some weight."""
    return not ("sink" in case.score_mods and case.inputs == "negative_logits")


def _single_levels(space: Space, rng: random.Random) -> NDArray[np.bool_]:
    """Which levels are possible, alone."""
    search = _Search(space, 1, np.ones(tuples(1).count, np.bool_), Array(cases=[], possible={}), rng)
    search.explore()
    return search.seen


def _sums_of(seen: NDArray[np.bool_], strength: int) -> NDArray[np.bool_]:
    """The tuples all of whose parts were seen, which is necessary for them to be possible."""
    smaller, larger = tuples(strength - 1), tuples(strength)
    axes, codes = larger.parts(np.arange(larger.count))
    possible = np.ones(larger.count, np.bool_)
    for left_out in range(strength):
        kept = [place for place in range(strength) if place != left_out]
        possible &= seen[smaller.numbers(axes[:, kept], codes[:, kept])]
    return possible


_BITS = {level: 1 << place for place, level in enumerate((axis.name, one) for axis in AXES for one in axis.levels)}


def _seen_with(pairs: NDArray[np.bool_]) -> dict[tuple[str, str], int]:
    """For each level, the bits of the levels that it was seen with, and its own."""
    found = dict(_BITS)
    for levels in tuples(2).levels(np.flatnonzero(pairs).tolist()):
        one, other = levels.items()
        found[one] |= _BITS[other]
        found[other] |= _BITS[one]
    return found


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Cases, and the numbers of their levels."""

    cases: list[Case]
    codes: NDArray[np.int64]

    def __add__(self, other: _Candidates) -> _Candidates:
        return _Candidates(self.cases + other.cases, np.concatenate([self.codes, other.codes]))


class _Search:
    """The search for cases with all tuples of one strength."""

    def __init__(self, space: Space, strength: int, hoped: NDArray[np.bool_], array: Array, rng: random.Random) -> None:
        self._space, self._array, self._rng = space, array, rng
        self._tuples, self._tries = tuples(strength), _TRIES[strength]
        self._covered = self._tuples.had_by(codes_of(array.cases))
        self.seen = self._covered.copy()
        """Pairs of any case that was drawn, kept or not."""
        self._failed = np.where(hoped, 0, self._tries)
        """Draws for it alone that gave nothing."""

    def explore(self) -> _Candidates:
        """See every possible tuple once; returns the cases that came out."""
        found = self._draw([{}] * 2 * _AT_ONCE)
        while (hidden := np.flatnonzero(~self.seen & (self._failed < self._tries))).size:
            found += self._alone(self._some(hidden))
        return found

    def run(self, most: int) -> NDArray[np.bool_]:
        """Keep cases until every possible tuple is in one, and return which are possible."""
        self._keep_best(self.explore(), most)
        seen_with = _seen_with(self.seen if self._tuples is tuples(2) else self._array.possible[2])
        while (missing := np.flatnonzero(~self._covered & self.seen)).size and len(self._array.cases) < most:
            some = self._some(missing)
            self._keep_best(self._alone(some[: _AT_ONCE // 4]) + self._draw(self._joined(some, seen_with)), most)
        return self.seen

    def _some(self, numbers: NDArray[np.int64]) -> list[int]:
        return self._rng.sample(numbers.tolist(), min(_AT_ONCE, len(numbers)))

    def _joined(self, numbers: list[int], seen_with: Mapping[tuple[str, str], int]) -> list[dict[str, str]]:
        """Levels of several of these tuples, as far as each pair of them was seen."""
        sets = []
        for levels in self._tuples.levels(numbers):
            own, others = 0, -1
            for one in levels.items():
                own, others = own | _BITS[one], others & seen_with[one]
            sets.append((levels, own, others))
        joined = []
        for _ in range(min(_AT_ONCE, 8 * len(sets))):
            wanted: dict[str, str] = {}
            all_others = -1
            for levels, own, others in self._rng.choices(sets, k=self._rng.randint(*_JOIN)):
                if not own & ~all_others:
                    wanted |= levels
                    all_others &= others
            joined.append(wanted)
        return joined

    def _alone(self, numbers: list[int]) -> _Candidates:
        """Draw for each of these tuples, and count in vain."""
        easiest = self._space.easiest
        drawn = self._space.draws([{**easiest, **levels} for levels in self._tuples.levels(numbers)], self._rng)
        self._failed[[number for number, case in zip(numbers, drawn, strict=True) if case is None]] += 1
        return self._noted(drawn)

    def _draw(self, wanted: Sequence[Mapping[str, str]]) -> _Candidates:
        return self._noted(self._space.draws(wanted, self._rng))

    def _noted(self, drawn: list[Case | None]) -> _Candidates:
        cases = [case for case in drawn if case is not None]
        codes = codes_of(cases)
        self.seen |= self._tuples.had_by(codes)
        return _Candidates(cases, codes)

    def _keep_best(self, candidates: _Candidates, most: int) -> None:
        """Keep those that have most of what is missing for their time, while they are nearly as good as the best."""
        numbers = self._tuples.of(candidates.codes)
        times = np.array([_START_S + seconds(case) for case in candidates.cases])
        values = (~self._covered[numbers]).sum(1) / times
        least = _WORSE * values.max(initial=0)
        while least and len(self._array.cases) < most and values.max() >= least:
            best = int(values.argmax())
            values[best] = (~self._covered[numbers[best]]).sum() / times[best]  # it only falls: counted in its turn
            if values[best] >= max(least, values.max()):
                self._array.cases.append(candidates.cases[best])
                self._covered[numbers[best]] = True
                values[best] = 0
