"""All mutants."""

from __future__ import annotations

from attnbench.mutants.kernels import (
    conditions,
    gradients,
    heads,
    masks,
    misconduct,
    precision,
    quantised,
    requests,
    scale,
    softmax,
)
from attnbench.mutants.mutant import Mutant, mutant_of

_THEMES = (scale, masks, requests, softmax, heads, precision, gradients, misconduct, conditions, quantised)


def mutants() -> tuple[Mutant, ...]:
    """Every mutant, theme by theme, each with a state of its own."""
    return tuple(mutant_of(steps) for theme in _THEMES for steps in theme.MUTANTS)
