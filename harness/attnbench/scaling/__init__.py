"""Growth with the sequence length: laws with intervals, cliffs, crossovers. Numbers in, numbers out."""

from __future__ import annotations

from attnbench.scaling.crossover import Crossover, crossovers
from attnbench.scaling.fit import FEWEST_SIZES, NARROWEST, Cliff, Interval, Refusal, Scaling, fit_scaling
from attnbench.scaling.laws import LAWS, Law

__all__ = [
    "FEWEST_SIZES",
    "LAWS",
    "NARROWEST",
    "Cliff",
    "Crossover",
    "Interval",
    "Law",
    "Refusal",
    "Scaling",
    "crossovers",
    "fit_scaling",
]
