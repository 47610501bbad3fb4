"""Budgets cover sums in any order, as the order depends on the processor and its library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attnbench import make_case
from attnbench.cases.case import Case
from attnbench.cases.inputs.operands import operand
from attnbench.oracle.budget import budget, measure
from attnbench.oracle.judge import Truth, find_truth
from attnbench.oracle.selection import select

Floats = NDArray[np.floating]
Product = Callable[[Floats, Floats], Floats]


def one_by_one(a: Floats, b: Floats) -> Floats:
    """Return ``a @ b`` in their dtype, summed one product at a time."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for column, row in zip(a.T, b, strict=True):
        total += column[:, None] * row
    return total


def backwards(a: Floats, b: Floats) -> Floats:
    """Return ``a @ b``, summed from the last product to the first."""
    return one_by_one(a[:, ::-1], b[::-1])


def in_lanes(a: Floats, b: Floats) -> Floats:
    """Return ``a @ b`` as the total of eight sums of every eighth product, like the lanes of a register."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for lane in range(8):
        total += one_by_one(a[:, lane::8], b[lane::8])
    return total


def flash(case: Case, forward: Product, backward: Product) -> dict[str, Floats]:
    """Return every tensor of a batch of one, in the case's dtype; the backward pass recomputes scores."""
    q, k, v, dout = (operand(case, name)[0].astype(case.dtype) for name in ("q", "k", "v", "dout"))
    scale = q.dtype.type(case.scale)
    found: dict[str, list[Floats]] = {name: [] for name in ("out", "lse", "dq", "dk", "dv")}
    for head in range(case.heads_q):
        scores = forward(q[head], k[head].T) * scale
        top = scores.max(-1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        lse = top + np.log(total)
        out = forward(weights, v[head]) / total
        weights = np.exp(backward(k[head], q[head].T).T * scale - lse)
        delta = (dout[head] * out).sum(-1, keepdims=True)
        dscores = weights * (backward(dout[head], v[head].T) - delta)
        found["out"].append(out)
        found["lse"].append(lse[:, 0])
        found["dq"].append(backward(dscores, k[head]) * scale)
        found["dk"].append(backward(dscores.T, q[head]) * scale)
        found["dv"].append(backward(weights.T, dout[head]))
    return {name: np.stack(tensors) for name, tensors in found.items()}


def largest(case: Case, truth: Truth, got: dict[str, Floats]) -> float:
    """Return the largest error over its budget, of all tensors and both measures."""
    found = 0.0
    for name, answer in truth.answers.items():
        error = measure(torch.from_numpy(got[name]).double(), answer, per_value=name == "lse")
        of_all, of_a_row = budget(case, name, truth.low_precision[name], truth.terms.get(name))
        found = max(found, error.rel / of_all, error.max / of_a_row)
    return found


SHAPES: list[dict[str, Any]] = [
    {"seqlen_q": 1, "seqlen_kv": 33, "head_dim": 128},
    {"seqlen_q": 40, "seqlen_kv": 71, "head_dim": 24, "head_dim_v": 48},
]


@pytest.mark.parametrize("inputs", ["normal", "needle", "outlier", "large_logits", "negative_logits", "constant"])
@pytest.mark.parametrize("shape", SHAPES, ids=["one-query", "many"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pass_that_adds_up_in_another_order_than_the_one_before_agrees(
    shape: dict[str, Any], inputs: str, dtype: str
) -> None:
    """While budgets assumed one order, dV of a query with large scores was 98 times its budget."""
    worst = 0.0
    for seed in range(5):
        case = make_case(heads_q=2, mode="backward", dtype=dtype, inputs=inputs, seed=seed, **shape)
        truth = find_truth(case, select(case), 0)
        for forward, backward in ((one_by_one, backwards), (in_lanes, one_by_one)):
            worst = max(worst, largest(case, truth, flash(case, forward, backward)))
    assert 0.05 < worst < 0.7
