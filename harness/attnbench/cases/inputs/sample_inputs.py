"""The inputs of timed samples: each sample gets new ones at little cost, and the oracle knows their answers.

Signs of V flip, and signs of Q and K together (``sign_flips.py``). Queries move: a batch element's queries, taken head
after head as one list, rotate by a random number of rows. Anything that an implementation keeps from an earlier call,
be it outputs, weights or another form of K, is then wrong.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from attnbench.cases.inputs.operands import operand_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_POINTING = ("needle", "retrieval")
"""Families whose queries point at keys of their own head that are chosen by row."""


class Inputs(BaseModel):
    """The inputs of a call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repetition: int = Field(default=0, ge=0)
    """Index of the draw of values, see :func:`attnbench.cases.inputs.operands.operand`."""
    flip_index: int = Field(default=0, ge=0)
    """Index of the pattern of signs, see :mod:`attnbench.cases.inputs.sign_flips`."""
    moved: int = Field(default=0, ge=0)
    """Number of rows by which the queries are rotated."""


class SampledRow(BaseModel):
    """The place of a row in a sample's output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: int
    """Index of the sample, from 0."""
    inputs: Inputs
    batch: int
    head: int
    row: int


def unknown_inputs(case: Case) -> Inputs:
    """Draw unpredictable inputs: the repetition of timed samples, and the rotation of queries in the last one."""
    # Odd, so that for values of a file the signs of V differ from those of the first calls.
    repetition = 2 * secrets.randbits(60) + 1
    moved = secrets.randbelow(max(1, case.heads_q * case.seqlen_q)) if queries_can_move(case) else 0
    return Inputs(repetition=repetition, moved=moved)


def queries_can_move(case: Case) -> bool:
    """Whether rotated queries are as likely a draw of the case's inputs as the original ones."""
    known = case.operator == "attention" and not case.inputs.startswith("file:")
    return known and case.inputs not in _POINTING and case.dtype != "float8_e4m3fn"


def moved_queries(case: Case, batch_index: int, head: int, inputs: Inputs) -> NDArray[np.floating]:
    """Return one head of the rotated queries, shape ``(seqlen_q, head_dim)``, without sign flips."""
    first, row = moved_from(case, head, 0, inputs.moved)
    of_first = operand_head(case, "q", batch_index, first, inputs.repetition)
    if row == 0:
        return of_first
    of_next = operand_head(case, "q", batch_index, (first + 1) % case.heads_q, inputs.repetition)
    return np.concatenate([of_first[row:], of_next[:row]])


def moved_from(case: Case, head: int, row: int, moved: int) -> tuple[int, int]:
    """Return the head and the row of a query before the rotation."""
    return divmod((head * case.seqlen_q + row - moved) % (case.heads_q * case.seqlen_q), case.seqlen_q)
