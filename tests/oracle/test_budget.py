"""Budgets of an LSE, which is one number per row: for few rows, the reference's errors may be small by luck."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnbench import make_case
from attnbench.cases.case import Case
from attnbench.cases.inputs.operands import operand
from attnbench.oracle.budget import budget, likely_size, measure
from attnbench.oracle.judge import Truth, find_truth
from attnbench.oracle.selection import select

DECODE = make_case(heads_q=2, seqlen_q=1, seqlen_kv=257, dtype="bfloat16")


def ratio(case: Case, truth: Truth, lse: torch.Tensor) -> float:
    """Return the error of an LSE over its budget, the larger of both measures."""
    error = measure(lse, truth.answers["lse"], per_value=True)
    allowed = budget(case, "lse", truth.low_precision["lse"], truth.terms["lse"])
    return max(error.rel / allowed[0], error.max / allowed[1])


def scores(case: Case, repetition: int) -> torch.Tensor:
    """Return the scores (heads, seqlen_q, seqlen_kv) in float64, for a batch of one."""
    q, k = (torch.from_numpy(operand(case, name, repetition)).double()[0] for name in ("q", "k"))
    return case.scale * q.bfloat16().double() @ k.bfloat16().double().mT


def stored(numbers: torch.Tensor, bits: int, generator: torch.Generator) -> torch.Tensor:
    """Simulate rounding to ``bits`` bits of mantissa: add a random error of up to half the spacing."""
    spacing = torch.exp2(torch.floor(torch.log2(numbers.abs())) - bits)
    return numbers + spacing * (torch.rand(numbers.shape, generator=generator, dtype=torch.float64) - 0.5)


def test_whoever_rounds_scores_at_other_places_agrees_whatever_the_values() -> None:
    """torch.compile does so: 38 of 200 sets of values exceeded twice the errors of the low-precision reference."""
    generator = torch.Generator().manual_seed(0)
    worst, of_reference_alone = 0.0, 0
    for repetition in range(60):
        truth = find_truth(DECODE, select(DECODE, repetition), repetition, stores_scores=True)
        twice = stored(stored(scores(DECODE, repetition), 7, generator), 7, generator)
        lse = twice.logsumexp(-1)
        worst = max(worst, ratio(DECODE, truth, lse))
        error = measure(lse, truth.answers["lse"], per_value=True)
        of_reference_alone += error.max > 2 * truth.low_precision["lse"].max
    assert worst < 0.7
    assert of_reference_alone > 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_whoever_keeps_scores_in_float32_is_given_no_room_for_storing_them(dtype: str) -> None:
    """Storing large scores in 16 bits moves them by more than the rounding of any output."""
    case = make_case(heads_q=2, seqlen_q=64, seqlen_kv=131, dtype=dtype, inputs="large_logits")
    kept, stored_too = (find_truth(case, select(case), 0, stores_scores=stores) for stores in (False, True))
    for name in ("out", "lse"):
        narrow, wide = (
            budget(case, name, truth.low_precision[name], truth.terms[name]) for truth in (kept, stored_too)
        )
        assert narrow[0] < wide[0] / 3
        assert narrow[1] < wide[1] / 3


@pytest.mark.parametrize("bits", [3, 4])
def test_scores_of_fewer_bits_are_seen_in_an_lse_of_one_row(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for repetition in range(10):
        truth = find_truth(DECODE, select(DECODE, repetition), repetition, stores_scores=True)
        ratios.append(ratio(DECODE, truth, stored(scores(DECODE, repetition), bits, generator).logsumexp(-1)))
    assert max(ratios) > 1


def test_likely_is_what_sums_of_uniform_errors_hardly_ever_exceed() -> None:
    generator = np.random.default_rng(0)
    deviations = torch.full((4,), 1e-3, dtype=torch.float64)
    answer = torch.full((4,), 0.5, dtype=torch.float64)
    likely = likely_size(answer, deviations, per_value=True)
    draws = generator.uniform(-1, 1, (100_000, 4, 16)).sum(-1) * 1e-3 * np.sqrt(3 / 16)
    assert np.abs(draws).max() < 2 * likely.max < 8e-3
    assert np.sqrt(np.square(draws).mean(-1)).max() < likely.rel < 4e-3


def test_likely_is_what_the_norms_of_rows_hardly_ever_exceed_though_each_be_one_error() -> None:
    """Two competing keys move a row along one line, so its columns share a single error."""
    generator = np.random.default_rng(0)
    answer = torch.full((3, 2), 0.5, dtype=torch.float64)
    deviations = torch.tensor([1e-3, 1e-3, 1e-5], dtype=torch.float64)
    likely = likely_size(answer, deviations, per_value=False)
    norms = np.abs(generator.standard_normal((200_000, 3))) * deviations.numpy()
    scale = 0.5 * np.sqrt(2)
    assert norms.max() / scale < 2 * likely.max < 8e-3 / scale
    assert np.sqrt(np.square(norms).mean(-1)).max() / scale < likely.rel < 5.5e-3 / scale


def test_a_row_without_keys_widens_nothing() -> None:
    case = make_case(heads_q=2, seqlen_q=8, seqlen_kv=4, mask="causal", alignment="bottom_right", dtype="bfloat16")
    truth = find_truth(case, select(case), 0)
    assert truth.terms["lse"].worst[1] >= 4
    assert np.isfinite(truth.terms["lse"].rel)
