"""The budget follows from what honest computations get wrong, and from the rounding that they may be spared by luck."""

from __future__ import annotations

import math

import pytest
import torch

from attnbench import Case, make_case
from attnbench.cases.operands import operand
from attnbench.oracle.budget import budget, measure
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select

HALF = torch.finfo(torch.bfloat16).eps / 2


def test_rounding_of_scores_counts_once_where_honest_computations_have_it() -> None:
    case = make_case(heads_q=2, seqlen_q=128, mode="forward_backward", dtype="bfloat16")
    truth = find_truth(case, select(case), 0)
    honest = truth.honest["out"]
    rel, _ = budget(case, "out", honest, truth.terms["out"])
    alone, _ = budget(case, "out", honest, None)
    assert rel == alone < 2 * honest.rel + 1.02 * HALF, "the term adds nothing"


def two_keys(seed: int) -> Case:
    """One query and two keys, whose scores are large and stored in 16 bits."""
    return make_case(
        heads_q=1, seqlen_q=1, seqlen_kv=2, head_dim=16, dtype="bfloat16", inputs="large_logits", seed=seed
    )


@pytest.mark.parametrize("seed", range(40))
def test_scores_that_are_stored_twice_may_be_as_wrong_as_that_makes_them(seed: int) -> None:
    """Honest computations may have been lucky: their single row says little of what others may get wrong."""
    case = two_keys(seed)
    q, k, v = (torch.from_numpy(operand(case, name)[0, 0]).bfloat16().double() for name in ("q", "k", "v"))
    scores = case.scale * q @ k.T
    apart = torch.tensor([1.0, -1.0]) * scores.sign()
    worst = torch.softmax(scores * (1 + 2 * HALF * apart), -1) @ v
    truth = find_truth(case, select(case), 0)
    error = measure(worst[None], truth.answers["out"], per_value=False)
    rel, largest = budget(case, "out", truth.honest["out"], truth.terms["out"])
    assert error.rel <= rel
    assert error.max <= largest


def test_without_that_some_honest_rows_would_fail() -> None:
    """What the test above stands for happens: twice the honest error is sometimes less than two roundings make."""
    lucky = 0
    for seed in range(40):
        truth = find_truth(two_keys(seed), select(two_keys(seed)), 0)
        alone, _ = budget(two_keys(seed), "out", truth.honest["out"], None)
        rel, _ = budget(two_keys(seed), "out", truth.honest["out"], truth.terms["out"])
        assert rel >= alone
        lucky += not math.isclose(rel, alone)
    assert lucky > 0
