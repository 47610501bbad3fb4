"""The result of comparing a model with itself, as data."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """How far an output was moved, and how far it may be."""

    output: str
    relative: float
    """Norm of the difference over the norm of the original's output."""
    bound: float
    """The largest ``relative`` of a sound implementation."""
    row_ratio: float
    """The move of the row that moved most over its bound."""
    rows_left_out: int
    """Rows which depend on queries that see no key, whose attention is nowhere defined."""

    @property
    def ratio(self) -> float:
        """The larger of either move over its bound."""
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
    """Those that were left to the model, by the reason."""
    moves: tuple[Move, ...]
    original_s: tuple[float, ...]
    """Wall times of the model as it is, in turns with those below."""
    replaced_s: tuple[float, ...]


def over(value: float, bound: float) -> float:
    """A value over its bound; 0 where it is 0."""
    if value == 0:
        return 0.0
    return value / bound if bound else math.inf
