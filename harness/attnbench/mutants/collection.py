"""All mutants."""

from __future__ import annotations

from attnbench.mutants.kernels import (
    conditions,
    gradients,
    heads,
    masks,
    misconduct,
    padding,
    precision,
    quantised,
    requests,
    scale,
    score_mods,
    softmax,
    trees,
)
from attnbench.mutants.mutant import Mutant, mutant_of

_OF_MASKS = (masks, padding, trees, requests)
_THEMES = (scale, *_OF_MASKS, softmax, heads, score_mods, precision, gradients, misconduct, conditions, quantised)


def mutants() -> tuple[Mutant, ...]:
    """Every mutant, theme by theme, each with a state of its own."""
    return tuple(mutant_of(steps) for theme in _THEMES for steps in theme.MUTANTS)
