"""Builds a covering array: few cases that together contain every possible tuple of levels.

Libraries for this (allpairspy, covertable) take constraints as rules on fields. Here the constraints are
:func:`make_case`, a declaration and a hook of the implementation, which only judge whole cases, and some levels are
known only of whole cases. So a case grows level by level, as in AETG (Cohen et al., IEEE Trans. Softw. Eng. 23(7),
1997), always by the level that completes most missing tuples, and each step is checked by drawing random cases. In the
end cases whose own tuples fit into one case are merged.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.covering.contradictions import contradicts
from attnbench.covering.draw import draw, seconds
from attnbench.covering.tuples import AXIS_OF_LEVEL, FIRST_LEVEL, LEVELS, codes_of, in_words, tuples

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Declaration

_AT_ONCE = 600
"""Number of draws in a batch."""
_TRIES = {1: 100, 2: 40, 3: 3}
"""Number of failed draws, by strength, after which a tuple counts as impossible."""
_STEP = 4
"""Draws for each step of a case that grows."""
_SAMPLE = 5_000
"""Missing tuples that a case grows for, at most."""
_MERGES = 300
"""The most attempts per round to merge two cases."""
_ROUNDS = 12
"""Number of rounds that redraw and merge cases."""
_BOTH = "forward_backward"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The cases that an implementation accepts."""

    said: Declaration
    device: str
    seed: int
    """Seed of the cases' values."""
    takes: Callable[[Sequence[Case]], Sequence[bool]]
    """Returns whether each of these declared cases is accepted by the implementation's hook."""

    @property
    def easiest(self) -> dict[str, str]:
        """Levels that make most others possible: many implementations accept more cases without gradients."""
        return {"mode": "forward"} if "forward" in self.said.modes else {}

    def draws(self, wanted: Sequence[Mapping[str, str]], rng: random.Random) -> list[Case | None]:
        """Draw a case for each set of levels; ``None`` for failed draws."""
        return self._taken([draw(levels, self.said, self.device, self.seed, rng) for levels in wanted])

    def like(self, cases: Sequence[Case], rng: random.Random) -> list[Case | None]:
        """Draw for each case another one of the same operator, sizes, dtype and mode; ``None`` for failed draws."""
        kept = ("operator", "mode", "dtype")
        wanted = [{name: str(getattr(case, name)) for name in kept} for case in cases]
        both = zip(wanted, cases, strict=True)
        return self._taken([draw(levels, self.said, self.device, self.seed, rng, like=case) for levels, case in both])

    def _taken(self, drawn: list[Case | None]) -> list[Case | None]:
        there = [case for case in drawn if case is not None]
        taken = iter(self.takes(there) if there else ())
        return [case if case is not None and next(taken) else None for case in drawn]


@dataclasses.dataclass(kw_only=True)
class Array:
    """A covering array's cases, and the tuples that are possible."""

    cases: list[Case]
    possible: dict[int, NDArray[np.bool_]]
    """Pairs and triples found by drawing; if only pairs are covered, all triples whose pairs were found."""


def cover(space: Space, strength: int, rng: random.Random, most: int) -> Array:
    """Find cases that contain every possible pair, or every possible triple, of levels.

    If possible, each tuple is in a case that reveals every mistake: one with output and gradients that are not zero.

    Args:
        space: the cases to choose from.
        strength: 2 or 3.
        rng: source of randomness; the same seed gives the same cases.
        most: largest number of cases; the search stops there even if tuples are missing.
    """
    array = Array(cases=[], possible={})
    levels, pairs = (np.ones(tuples(count).count, np.bool_) for count in (1, 2))
    searches: list[_Search] = []
    for part in (space, _telling(space)):  # what is impossible in the first is so in the second, which is part of it
        levels = _explored(part, 1, levels, array, rng).seen
        searches.append(_explored(part, 2, pairs & _sums_of(levels, 2), array, rng))
        pairs = searches[-1].seen
    for search, part in zip(reversed(searches), (_telling(space), space), strict=True):
        array.possible[2] = search.run(most)
        hoped = _sums_of(array.possible[2], 3)
        array.possible[3] = _explored(part, 3, hoped, array, rng).run(most) if strength == 3 else hoped
    return array


def _explored(space: Space, strength: int, hoped: NDArray[np.bool_], array: Array, rng: random.Random) -> _Search:
    search = _Search(space, strength, hoped, array, rng)
    search.explore()
    return search


def _telling(space: Space) -> Space:
    """Return the subspace of cases whose verdicts reveal every mistake."""
    modes = (_BOTH,) if _BOTH in space.said.modes else space.said.modes

    def takes(cases: Sequence[Case]) -> list[bool]:
        return [taken and _is_telling(case) for case, taken in zip(cases, space.takes(cases), strict=True)]

    return dataclasses.replace(space, said=dataclasses.replace(space.said, modes=modes), takes=takes)


def _is_telling(case: Case) -> bool:
    """Whether the output is not close to zero for any kernel: the sink must leave weight to the keys."""
    return not ("sink" in case.score_mods and case.inputs == "negative_logits")


def _sums_of(seen: NDArray[np.bool_], strength: int) -> NDArray[np.bool_]:
    """Return the tuples whose parts have all been seen, a necessary condition for being possible."""
    smaller, larger = tuples(strength - 1), tuples(strength)
    axes, codes = larger.parts(np.arange(larger.count))
    possible = np.ones(larger.count, np.bool_)
    for left_out in range(strength):
        kept = [place for place in range(strength) if place != left_out]
        possible &= seen[smaller.numbers(axes[:, kept], codes[:, kept])]
    return possible


def _together(pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether two levels are equal or were seen in one case, (levels, levels)."""
    together = np.eye(len(LEVELS), dtype=np.bool_)
    one, other = tuples(2).members(np.flatnonzero(pairs)).T
    together[one, other] = together[other, one] = True
    return together


def _closure(wanted: list[int], together: NDArray[np.bool_]) -> list[int]:
    """The wanted levels, and those of other axes that are the only ones which go together with all of them.

    None at all where some axis has none that does.
    """
    fits = np.logical_and.reduce(together[wanted]) if wanted else np.ones(len(together), np.bool_)
    counts = np.add.reduceat(fits, FIRST_LEVEL, dtype=np.int64)
    if not counts.all():
        return []
    only = np.flatnonzero(fits & (counts == 1)[AXIS_OF_LEVEL])
    return [*dict.fromkeys((*wanted, *only.tolist()))]


class _Search:
    """The search for cases that contain all tuples of one strength."""

    def __init__(self, space: Space, strength: int, hoped: NDArray[np.bool_], array: Array, rng: random.Random) -> None:
        self._space, self._array, self._rng, self._strength = space, array, rng, strength
        self._tuples, self._tries = tuples(strength), _TRIES[strength]
        self.seen = self._tuples.had_by(codes_of(array.cases))
        """Tuples of any case that was drawn, kept or not."""
        self._first_with: dict[int, Case] = {}
        """The drawn case in which a tuple was seen first."""
        self._covered = np.zeros_like(self.seen)
        self._failed = np.where(hoped, 0, self._tries)
        """Number of failed draws for each tuple."""

    def explore(self) -> None:
        """Draw until every tuple has been seen or counts as impossible."""
        self._draw([{}] * 2 * _AT_ONCE)
        hidden = np.flatnonzero(~self.seen & (self._failed < self._tries))
        in_vain = [contradicts(levels, self._space.said) for levels in self._tuples.levels(hidden)]
        self._failed[hidden[in_vain]] = self._tries
        while (hidden := np.flatnonzero(~self.seen & (self._failed < self._tries))).size:
            self._alone(self._rng.sample(hidden.tolist(), min(_AT_ONCE, len(hidden))))

    def run(self, most: int) -> NDArray[np.bool_]:
        """Keep cases until every tuple that was seen is in one, and return which are possible."""
        self._covered |= self._tuples.had_by(codes_of(self._array.cases))
        self.seen |= self._covered
        together = _together(self.seen if self._strength == 2 else self._array.possible[2])
        most -= len(self._array.cases)
        cases = self._reduced(self._filled([], together, most), together)
        self._array.cases += self._filled(cases, together, most)  # redrawing may have found further tuples
        return self.seen

    def _filled(self, cases: list[Case], together: NDArray[np.bool_], most: int) -> list[Case]:
        """Add cases until every tuple that was seen is in a case."""
        self._covered |= self._tuples.had_by(codes_of(cases))
        while (missing := np.flatnonzero(~self._covered & self.seen)).size and len(cases) < most:
            if (case := self._grown(missing, together)) is not None:
                cases.append(case)
                self._covered |= self._tuples.had_by(codes_of([case]))
        return cases

    def _grown(self, missing: NDArray[np.int64], together: NDArray[np.bool_]) -> Case | None:
        """Grow a case that has many missing tuples; ``None`` if drawing the first tuple failed.

        A tuple that is hardly ever drawn comes in the case in which it was seen.
        """
        combinations = self._tuples.combination(missing)
        start = self._rng.choice(missing[combinations == np.bincount(combinations).argmax()].tolist())
        wanted: list[int] = self._tuples.members([start])[0].tolist()
        best = self._draw([{**self._space.easiest, **in_words(_closure(wanted, together) or wanted)}])[0]
        if best is None:
            self._failed[start] += 1
            return None if self._failed[start] < self._tries else self._first_with[start]
        members = self._tuples.members(self._rng.sample(missing.tolist(), min(_SAMPLE, len(missing))))
        fits, size = np.logical_and.reduce(together[wanted]), 4
        while more := self._best_added(wanted, members, fits, together, size):
            levels = in_words(_closure(wanted + more, together))
            case = self._first_of(_STEP, levels) if levels else None
            if case is not None:
                wanted += more
                fits &= together[more].all(0)
                best = case
                size *= 2
            elif len(more) > 1:
                size = len(more) // 2
            else:
                fits[more] = False
        return best

    def _best_added(
        self,
        wanted: list[int],
        members: NDArray[np.int64],
        fits: NDArray[np.bool_],
        together: NDArray[np.bool_],
        size: int,
    ) -> list[int]:
        """Choose levels one by one: each completes the most tuples, or among equals begins the most."""
        fits, chosen = fits.copy(), np.zeros(len(fits), np.bool_)
        chosen[wanted] = True
        more: list[int] = []
        while len(more) < size:
            there = chosen[members]
            lacking = self._strength - there.sum(1)
            completed, begun = (
                np.bincount(members[(lacking == n)[:, None] & ~there], minlength=len(fits)) for n in (1, 2)
            )
            scores = np.where(fits & ~chosen, completed + begun / (1 + begun.sum()), 0)
            while scores.max() >= 1:
                best = int(scores.argmax())
                if not contradicts(in_words([*wanted, *more, best]), self._space.said):
                    break
                fits[best], scores[best] = False, 0
            else:
                break
            more.append(best)
            chosen[best] = True
            fits &= together[best]
        return more

    def _reduced(self, cases: list[Case], together: NDArray[np.bool_]) -> list[Case]:
        """Return fewer and quicker cases with the same tuples."""
        for _ in range(_ROUNDS):
            cases = self._redrawn(cases, together)
        return cases

    def _redrawn(self, cases: list[Case], together: NDArray[np.bool_]) -> list[Case]:
        """Replace two cases by one if the tuples that only they have fit into one, and a slow case by a quicker one."""
        numbers = self._tuples.of(codes_of(cases))
        counts = np.bincount(self._tuples.of(codes_of(self._array.cases + cases)).ravel(), minlength=self._tuples.count)
        needed = np.zeros((len(cases), len(LEVELS)), np.float32)
        for own, row in zip(needed, numbers, strict=True):
            own[self._tuples.members(row[counts[row] == 1])] = 1
        ones, others = np.nonzero(np.triu(needed @ ~together @ needed.T == 0, 1))
        fewest = np.argsort((needed[ones] + needed[others]).sum(1), kind="stable")[:_MERGES]
        groups = [*np.stack([ones, others], 1)[fewest].tolist(), *([place] for place in range(len(cases)))]
        wanted = [np.flatnonzero(needed[group].any(0)).tolist() for group in groups]
        drawn = self._draw([in_words(_closure(levels, together) or levels) for levels in wanted])
        kept: dict[tuple[int, ...], Case] = {(place,): case for place, case in enumerate(cases)}
        for group, case in zip(groups, drawn, strict=True):
            replaced = [(place,) for place in group]
            if case is None or not kept.keys() >= {*replaced}:
                continue
            if len(group) == 1 and seconds(case) >= seconds(cases[group[0]]):
                continue
            new = self._tuples.of(codes_of([case]))[0]
            counts[new] += 1
            for place in group:
                counts[numbers[place]] -= 1
            if counts[numbers[group]].all():
                kept = {place: one for place, one in kept.items() if place not in replaced}
                kept[(*group, -1)] = case
                continue
            counts[new] -= 1
            for place in group:
                counts[numbers[place]] += 1
        return [*kept.values()]

    def _first_of(self, count: int, levels: Mapping[str, str]) -> Case | None:
        """Return the first case that comes out of ``count`` draws, or ``None``."""
        drawn = (self._draw([levels])[0] for _ in range(count))
        return next((case for case in drawn if case is not None), None)

    def _alone(self, numbers: list[int]) -> list[Case | None]:
        """Draw a case for each of these tuples, and count failures."""
        easiest = self._space.easiest
        drawn = self._draw([{**easiest, **levels} for levels in self._tuples.levels(numbers)])
        self._failed[[number for number, case in zip(numbers, drawn, strict=True) if case is None]] += 1
        return drawn

    def _draw(self, wanted: Sequence[Mapping[str, str]]) -> list[Case | None]:
        drawn = self._space.draws(wanted, self._rng)
        there = [case for case in drawn if case is not None]
        for case, numbers in zip(there, self._tuples.of(codes_of(there)), strict=True):
            self._first_with |= dict.fromkeys(numbers[~self.seen[numbers]].tolist(), case)
            self.seen[numbers] = True
        return drawn
