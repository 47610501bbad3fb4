"""The result of comparing a model with itself, as data."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """The distance by which an output moved, and its bound."""

    output: str
    relative: float
    """Norm of the difference over the norm of the original's output."""
    bound: float
    """The largest ``relative`` of a sound implementation."""
    row_ratio: float
    """The move of the row that moved most over its bound."""
    rows_left_out: int
    """Number of rows left out because they depend on queries that see no key, whose attention is undefined."""

    @property
    def ratio(self) -> float:
        """The larger ratio of a move to its bound, of the whole output and of its worst row."""
        return max(over(self.relative, self.bound), self.row_ratio)

    @property
    def agrees(self) -> bool:
        """Whether the output and each of its rows moved within their bounds."""
        return self.ratio <= 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """The result of comparing a model with itself."""

    implementation: str
    calls: int
    """Attention calls of one run that the implementation computed."""
    fallbacks: dict[str, int]
    """Number of calls that were left to the model, by reason."""
    moves: tuple[Move, ...]
    original_s: tuple[float, ...]
    """Wall times of the unchanged model, measured alternately with ``replaced_s``."""
    replaced_s: tuple[float, ...]


def over(value: float, bound: float) -> float:
    """Return a value over its bound; 0 if the value is 0."""
    if value == 0:
        return 0.0
    return value / bound if bound else math.inf
