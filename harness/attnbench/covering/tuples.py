"""Numbers tuples of levels, and finds the tuples that occur in a case or in a list of cases."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from attnbench.covering.axes import AXES, levels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_CODES = [{level: code for code, level in enumerate(axis.levels)} for axis in AXES]

_COUNTS = np.array([len(axis.levels) for axis in AXES])
LEVELS = [(axis.name, level) for axis in AXES for level in axis.levels]
"""Every level of every axis; its place is its number."""
FIRST_LEVEL = np.cumsum(_COUNTS) - _COUNTS
"""The place in ``LEVELS`` of each axis's first level."""
AXIS_OF_LEVEL = np.repeat(np.arange(len(AXES)), _COUNTS)
"""The axis of each level, by its place."""


def codes_of(cases: Iterable[Case]) -> NDArray[np.int64]:
    """Return the levels of cases as indices within their axes, (cases, axes)."""
    rows = [[codes[level] for codes, level in zip(_CODES, levels_of(case).values(), strict=True)] for case in cases]
    return np.array(rows, np.int64).reshape(len(rows), len(AXES))


def in_words(levels: Iterable[int]) -> dict[str, str]:
    """Return the names of levels by axis, from indices into ``LEVELS``."""
    return dict(LEVELS[place] for place in levels)


class Tuples:
    """All tuples of ``strength`` levels of different axes, numbered from 0."""

    def __init__(self, strength: int) -> None:
        self.axes = np.array(list(itertools.combinations(range(len(AXES)), strength)))
        """The axes of each combination, (combinations, strength)."""
        self._place = np.zeros((len(AXES),) * strength, np.int64)
        self._place[tuple(self.axes.T)] = np.arange(len(self.axes))
        sizes = _COUNTS[self.axes]
        self._steps = np.ones_like(sizes)
        self._steps[:, :-1] = np.cumprod(sizes[:, :0:-1], axis=1)[:, ::-1]
        self._ends = np.cumsum(sizes.prod(axis=1))
        self._first = self._ends - sizes.prod(axis=1)
        self.count = int(self._ends[-1])

    def of(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of each case's tuples, (cases, combinations)."""
        numbers = np.tile(self._first, (len(codes), 1))
        for place in range(self.axes.shape[1]):
            numbers += codes[:, self.axes[:, place]] * self._steps[:, place]
        return numbers

    def numbers(self, axes: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of tuples; the inverse of :meth:`parts`."""
        combination = self._place[tuple(axes.T)]
        numbers: NDArray[np.int64] = self._first[combination] + (codes * self._steps[combination]).sum(axis=1)
        return numbers

    def parts(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the axes of tuples and the indices of their levels, both (tuples, strength)."""
        combination = self.combination(numbers)
        axes, steps = self.axes[combination], self._steps[combination]
        codes = (numbers - self._first[combination])[:, None] // steps
        return axes, codes % _COUNTS[axes]

    def combination(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index into ``axes`` of each tuple's combination of axes."""
        return np.searchsorted(self._ends, numbers, side="right").astype(np.int64)

    def members(self, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices into ``LEVELS`` of each tuple's levels, (tuples, strength)."""
        axes, codes = self.parts(np.asarray(numbers, np.int64))
        members: NDArray[np.int64] = FIRST_LEVEL[axes] + codes
        return members

    def levels(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[dict[str, str]]:
        """Tuples in words: level by axis."""
        return [in_words(one) for one in self.members(numbers).tolist()]

    def had_by(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which tuples occur in any of the cases with these levels, (count,)."""
        had = np.zeros(self.count, np.bool_)
        for start in range(0, len(codes), _AT_ONCE):
            had[self.of(codes[start : start + _AT_ONCE])] = True
        return had


_AT_ONCE = 256


@functools.cache
def tuples(strength: int) -> Tuples:
    """Return the tuples of this many levels."""
    return Tuples(strength)
