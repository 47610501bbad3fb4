"""The error of storing K and V quantised, apart from any implementation's."""

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
    """RMS of the exact output over dequantised K and V less that over K and V as drawn, over the RMS of the latter."""
    answers = reference(dataclasses.replace(case, kv_dtype=None), selection, 0, PLAIN)
    return measure(truth.answers["out"], answers["out"], per_value=False).rel
