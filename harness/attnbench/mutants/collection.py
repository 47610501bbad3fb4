"""Collects all mutants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.kernels import (
    conditions,
    dropout,
    gradients,
    heads,
    masks,
    misconduct,
    pages,
    precision,
    quantised,
    scale,
    sequences,
    softmax,
    trees,
)
from attnbench.mutants.mutant import Mutant, mutant_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from attnbench.mutants.steps import Steps

_OF_MASKS = (masks, sequences, pages, trees)
_THEMES = (scale, *_OF_MASKS, softmax, heads, precision, gradients, dropout, misconduct, conditions, quantised)


def mutants() -> tuple[Mutant, ...]:
    """Return new instances of all mutants, module by module."""
    return tuple(mutant_of(steps) for theme in _THEMES for steps in _defined_in(theme))


def _defined_in(theme: ModuleType) -> Iterator[type[Steps]]:
    """Yield the classes that a module defines, in order, except base classes, whose names begin with an underscore."""
    for name, one in vars(theme).items():
        if isinstance(one, type) and one.__module__ == theme.__name__ and not name.startswith("_"):
            yield one
