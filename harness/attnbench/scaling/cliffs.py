"""Cliffs: lengths at which a quantity leaves its law by more than noise, at one length or from there on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnbench.scaling.laws import POWER, fit_law

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Kind = Literal["outlier", "step"]

_MOST = 2
_ALARM = 0.01
"""Probability of finding a cliff in a curve without any, over all places together."""
_NOISES = 3.0
_SMALLEST = 0.05
"""Smallest relative height of a cliff that is reported."""
_SMOOTH = 0.008
"""Residuals below this cannot hide a cliff of that height."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A cliff at one of the sizes."""

    index: int
    kind: Kind

    def pattern(self, sizes: int) -> Array:
        """Return 1 at the sizes that the cliff affects and 0 elsewhere, shape (sizes,)."""
        where = np.arange(sizes)
        return (where == self.index if self.kind == "outlier" else where >= self.index).astype(np.float64)


def patterns_of(places: Sequence[Place], sizes: int) -> Array:
    """Return the patterns as columns, shape (sizes, cliffs)."""
    return np.stack([place.pattern(sizes) for place in places], axis=1) if places else np.zeros((sizes, 0))


def find_cliffs(lengths: Array, logs: Array, noise: float | None) -> list[Place]:
    """Add cliffs to the power law one by one, as long as each explains more than chance would.

    A candidate is tested by how much it reduces the squared residuals, relative to the remaining ones or to the known
    noise, whichever is larger. The level is divided by the number of candidates (Bonferroni).

    Args:
        lengths: rising, shape (sizes,).
        logs: logarithms of the values, shape (sizes,).
        noise: standard error of each logarithm, if known.
    """
    found: list[Place] = []
    sizes = len(lengths)
    # Steps need two sizes on either side: nearer to an end, a floor or an outlier fits equally well.
    candidates = [Place(index=i, kind="outlier") for i in range(1, sizes)]
    candidates += [Place(index=i, kind="step") for i in range(2, sizes - 1)]
    while len(found) < _MOST:
        left = sizes - POWER.parameters - len(found) - 1
        rest = [place for place in candidates if place not in found]
        if left < 2 or not rest:
            break
        best = _best(lengths, logs, noise, found, rest, left)
        if best is None:
            break
        found.append(best)
    return sorted(found, key=lambda place: place.index)


def _best(
    lengths: Array, logs: Array, noise: float | None, found: list[Place], rest: list[Place], left: int
) -> Place | None:
    from scipy.special import fdtrc

    sizes = len(lengths)
    before = float(fit_law(POWER, lengths, logs[None], patterns_of(found, sizes)).errors[0])
    if before < sizes * _SMOOTH**2:
        return None
    patterns = np.stack([patterns_of([*found, place], sizes) for place in rest])
    fits = fit_law(POWER, lengths, np.tile(logs, (len(rest), 1)), patterns)
    errors = fits.errors
    chosen = int(errors.argmin())
    remaining = max(float(errors[chosen]) / left, (noise or 0.0) ** 2, 1e-12)
    chance = float(fdtrc(1, left, (before - float(errors[chosen])) / remaining))
    height = abs(float(fits.steps()[chosen, -1]))
    if chance > _ALARM / len(rest) or height < max(_SMALLEST, _NOISES * remaining**0.5):
        return None
    return rest[chosen]
