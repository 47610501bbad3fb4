"""Compares rows of two tensors that should be equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.identities.identity import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOTH = 2.0
"""Two answers that are each within their budget differ by at most twice the budget."""


def difference(name: str, got: NDArray[Any], want: NDArray[Any], *, first_row: int = 0) -> Finding:
    """Compare a tensor with rows of another one.

    Args:
        name: the tensor's name.
        got: the other way's tensor, (batch, heads, rows, columns), or (batch, heads, rows) for an LSE.
        want: the call's tensor, (batch, heads, at least as many rows, columns); all of its rows determine the scale.
        first_row: the row of ``want`` that corresponds to the first row of ``got``.
    """
    least = floor(name, want)
    worst, where, seen = -1.0, (0, 0, first_row), (0.0, 0.0)
    for batch_index in range(got.shape[0]):
        for head in range(got.shape[1]):
            one = _columns(got[batch_index, head])
            other = _columns(want[batch_index, head][first_row : first_row + len(one)])
            apart, norms = _apart(one, other)
            relative = apart / np.maximum(norms, least)
            row = int(relative.argmax()) if relative.size else 0
            if relative.size and relative[row] > worst:
                worst, where = float(relative[row]), (batch_index, head, first_row + row)
                seen = (float(np.linalg.norm(one[row])), float(np.linalg.norm(other[row])))
    return Finding(
        tensor=name, error=max(worst, 0.0), where=where, got=seen[0], want=seen[1],
        row_by_row={name: BOTH}, rows=math.prod(got.shape[:3]), floors={name: least},
    )  # fmt: skip


def floor(name: str, tensor: NDArray[Any]) -> float:
    """Return the smallest scale for errors of a tensor's rows, like the oracle does (oracle/budget.py)."""
    if name == "lse":
        return 1.0
    total, count = 0.0, 0
    for head in tensor.reshape(-1, *tensor.shape[2:]):
        norms = row_norms(head)
        finite = norms[np.isfinite(norms)]
        total, count = total + float(np.square(finite).sum()), count + finite.size
    typical = math.sqrt(total / count) if count else 0.0
    return typical or 1.0


def row_norms(head: NDArray[Any]) -> NDArray[np.float64]:
    """Return the norm of each row of a matrix."""
    wide = head.astype(np.float64)
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return norms


def _columns(head: NDArray[Any]) -> NDArray[np.float64]:
    """Return a head as (rows, columns) in float64; an LSE has one column."""
    wide = head.astype(np.float64)
    return wide[:, None] if wide.ndim == 1 else wide


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return norms of the rows' differences, infinite if NaN or infinities do not match, and norms of ``other``."""
    with np.errstate(invalid="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        unlike = np.where(same, 0.0, one - other)
    apart = np.sqrt(np.square(unlike).sum(-1))
    norms = np.sqrt(np.square(np.where(np.isfinite(other), other, 0.0)).sum(-1))
    return np.where(np.isnan(apart), np.inf, apart), norms
