"""A mutant: correct attention with a mistake in one step."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES
from attnbench.registry.implementation import Implementation, attention

if TYPE_CHECKING:
    from attnbench.mutants.steps import Steps


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A known-wrong implementation."""

    name: str
    sentence: str
    """The mutant's mistake, in one sentence."""
    copies: str | None
    """The real bug that it copies, as ``owner/repository#number``."""
    implementation: Implementation


def mutant_of(steps: type[Steps]) -> Mutant:
    """Return the mutant of a class of steps, named after the class and described by its docstring's first line."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", steps.__name__).lower()
    sentence = (inspect.getdoc(steps) or "").partition("\n")[0]
    return Mutant(name, sentence, steps.copies, implementation_of(steps, f"mutant/{name}"))


def implementation_of(steps: type[Steps], name: str) -> Implementation:
    """Return an implementation that runs these steps, and declares all that the steps support."""
    taken = steps()
    implementation = attention(
        name,
        modes=steps.modes,
        empty=steps.empty,
        dtypes=("float64", "float32", "float16", "bfloat16"),
        masks=CHOICES["mask"],
        mask_intersections=True,
        score_mods=CHOICES["score_mod"],
        score_mod_combinations=True,
        kv_caches=CHOICES["kv_cache"],
        kv_dtypes=CHOICES["kv_dtype"],
        alignments=("top_left", "bottom_right"),
        strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
        gqa=True,
        unequal_head_dims=True,
        returns_lse=True,
        bias_grad=True,
        dropout=("cpu",),
    )(taken.call)
    implementation.prepare(taken.prepare)
    implementation.kept(taken.told)
    if taken.backward is not None:
        implementation.backward(taken.backward)
    return implementation
