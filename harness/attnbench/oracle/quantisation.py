"""The error of quantising K and V itself, independent of any implementation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.oracle.answer.arithmetic import PLAIN
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.budget import measure

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Truth
    from attnbench.oracle.selection import Selection


def quantisation_error(case: Case, selection: Selection, truth: Truth) -> float:
    """Return the RMS difference of the exact outputs with dequantised and original K and V, over the latter's RMS."""
    answers = reference(dataclasses.replace(case, kv_dtype=None), selection, 0, PLAIN)
    return measure(truth.answers["out"], answers["out"], per_value=False).rel
