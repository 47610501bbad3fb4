"""The budget follows from what honest computations get wrong, and from the rounding that they may be spared by luck."""

from __future__ import annotations

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


@pytest.mark.parametrize("seed", [112, 407])
def test_where_honest_computations_were_lucky_scores_may_still_be_rounded_twice(seed: int) -> None:
    """Of 600 seeds, ones whose single row says little of what storing the scores twice may do at its worst."""
    case = two_keys(seed)
    q, k, v = (torch.from_numpy(operand(case, name)[0, 0]).bfloat16().double() for name in ("q", "k", "v"))
    scores = case.scale * q @ k.T
    half_spacing = HALF * torch.exp2(scores.abs().log2().floor())
    worst = torch.softmax(scores + 2 * half_spacing * torch.tensor([1.0, -1.0]), -1) @ v
    truth = find_truth(case, select(case), 0)
    error = measure(worst[None], truth.answers["out"], per_value=False)
    alone, _ = budget(case, "out", truth.honest["out"], None)
    rel, largest = budget(case, "out", truth.honest["out"], truth.terms["out"])
    assert alone < error.rel <= rel
    assert error.max <= largest
