"""The inputs of timed samples: each sample has new ones, at hardly any cost, and the oracle knows their answers.

The signs of V flip, and those of Q and K together (``sign_flips.py``). Queries move: those of a batch element, head
after head, move on by a random number of rows, the last ones to the front. What an implementation kept of an earlier
call, be it outputs, weights or another form of K, is then wrong.
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
"""Families whose queries look for keys of their own head, in their own row."""


class Inputs(BaseModel):
    """Which inputs a call had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repetition: int = Field(default=0, ge=0)
    """Which draw of the values this is, see :func:`attnbench.cases.inputs.operands.operand`."""
    flip_index: int = Field(default=0, ge=0)
    """Which pattern of signs this is, see :mod:`attnbench.cases.inputs.sign_flips`."""
    moved: int = Field(default=0, ge=0)
    """By how many rows the queries moved."""


class SampledRow(BaseModel):
    """The place of a row in a sample's output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: int
    """From 0."""
    inputs: Inputs
    batch: int
    head: int
    row: int


def unknown_inputs(case: Case) -> Inputs:
    """Inputs that nobody can know before: those of timed samples, and how far queries move in the last one."""
    # Odd: with values of a file the signs of V are then others than in the first calls.
    repetition = 2 * secrets.randbits(60) + 1
    moved = secrets.randbelow(max(1, case.heads_q * case.seqlen_q)) if queries_can_move(case) else 0
    return Inputs(repetition=repetition, moved=moved)


def queries_can_move(case: Case) -> bool:
    """Whether queries may take each other's places, so that inputs are as likely as before."""
    known = case.operator == "attention" and not case.inputs.startswith("file:")
    return known and case.inputs not in _POINTING and case.dtype != "float8_e4m3fn"


def moved_queries(case: Case, batch_index: int, head: int, inputs: Inputs) -> NDArray[np.floating]:
    """One head of the queries that have moved, shape ``(seqlen_q, head_dim)``; their signs are left out."""
    first, row = moved_from(case, head, 0, inputs.moved)
    of_first = operand_head(case, "q", batch_index, first, inputs.repetition)
    if row == 0:
        return of_first
    of_next = operand_head(case, "q", batch_index, (first + 1) % case.heads_q, inputs.repetition)
    return np.concatenate([of_first[row:], of_next[:row]])


def moved_from(case: Case, head: int, row: int, moved: int) -> tuple[int, int]:
    """The head and the row where a query stood before."""
    return divmod((head * case.seqlen_q + row - moved) % (case.heads_q * case.seqlen_q), case.seqlen_q)
