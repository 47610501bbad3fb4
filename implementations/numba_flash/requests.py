"""Ragged batches: each run of equal requests is a batch that lies in the pack, and one call of a kernel.

So requests never share a tile, decodes go to the kernel for decoding, and nothing is copied or masked that no request
sees.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench import request_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

    from . import Plan


class Part:
    """A run of equal requests: how it is computed, and where it lies."""

    def __init__(self, plan: Plan, rows: slice, columns: slice, count: int) -> None:
        self.plan = plan
        self.of_queries = functools.partial(as_batch, place=rows, count=count)
        self.of_keys = functools.partial(as_batch, place=columns, count=count)


def parts_of(case: Case, operands: Operands, plan: Callable[[Case, Operands], Plan]) -> list[Part]:
    """The runs of a case's requests, in their order; none where it has no requests."""
    return [
        Part(plan(group.case, operands), group.rows, group.columns, group.case.batch) for group in request_groups(case)
    ]


def as_batch(pack: Tensor, place: slice, count: int) -> Tensor:
    """A view of (1, heads, tokens of the pack, ...) as (count, heads, tokens of a request, ...)."""
    tokens = pack[0, :, place]
    return tokens.view(len(tokens), count, -1, *tokens.shape[2:]).transpose(0, 1)


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, gradients: tuple[Tensor, ...],
    parts: list[Part],
) -> None:  # fmt: skip
    """Fill dQ, dK and dV, run by run."""
    dq, dk, dv = gradients
    for part in parts:
        plan, rows, keys = part.plan, part.of_queries, part.of_keys
        assert plan.backward is not None
        tensors = (rows(dout), rows(q), keys(k), keys(v), rows(out), rows(dq), keys(dk), keys(dv))
        plan.backward.start(rows(lse), *tensors)
