"""Quantised K and V: outputs are judged with the dequantised values; the error of quantising is a metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attnbench import Case, make_case
from attnbench.cases.inputs.operands import operand
from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.oracle.judge import find_truth
from attnbench.oracle.oracle import Adjudicator
from attnbench.oracle.selection import requests, select
from attnbench.stages.agreement import JudgeOutputs, OutputVerdict, Shape

FIELDS: dict[str, object] = {"heads_q": 4, "heads_kv": 2, "seqlen_q": 3, "seqlen_kv": 40, "head_dim": 16}


def by_loops(case: Case, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return attention in float64, computed number by number."""
    q, group = operand(case, "q"), case.heads_q // case.heads_kv
    out = np.zeros((case.heads_q, case.seqlen_q, case.head_dim_v))
    for h in range(case.heads_q):
        for i in range(case.seqlen_q):
            scores = [
                sum(float(q[0, h, i, d]) * float(k[0, h // group, j, d]) for d in range(case.head_dim)) * case.scale
                for j in range(case.seqlen_kv)
            ]
            weights = [math.exp(score - max(scores)) for score in scores]
            for j, weight in enumerate(weights):
                out[h, i] += weight / sum(weights) * v[0, h // group, j].astype(np.float64)
    return out


def verdict(case: Case, out: np.ndarray) -> OutputVerdict:
    """Return the oracle's verdict on an output (heads_q, seqlen_q, head_dim_v)."""
    wanted = requests(case, select(case))["out"]
    stored = torch.from_numpy(out).to(getattr(torch, case.output_dtype))
    bits = stored.view(torch.int32 if case.dtype == "float32" else torch.int16)
    question = JudgeOutputs(
        case=case, inputs=Inputs(), stores_scores=False,
        outputs={"out": Shape(shape=wanted.shape, dtype=case.output_dtype)}, frames={"out": bits.numpy().tobytes()},
    )  # fmt: skip
    said = Adjudicator().answer(question)
    assert isinstance(said, OutputVerdict)
    return said


@pytest.mark.parametrize("kv_dtype", ["int8", "float8_e4m3fn"])
def test_the_answer_is_attention_over_what_is_left_and_the_rest_is_a_number_of_its_own(kv_dtype: str) -> None:
    case, plain = make_case(**FIELDS, kv_dtype=kv_dtype), make_case(**FIELDS)
    left = by_loops(case, operand(case, "k"), operand(case, "v"))
    drawn = by_loops(plain, operand(plain, "k"), operand(plain, "v"))
    answer = find_truth(case, select(case), 0).answers["out"].numpy()
    assert np.abs(answer - left).max() < 1e-12
    cost = math.sqrt(((left - drawn) ** 2).mean() / (drawn**2).mean())
    of_left, of_drawn = verdict(case, left), verdict(case, drawn)
    assert of_left.problem is None
    assert of_left.out_error_ratio is not None
    assert of_left.out_error_ratio < 0.5
    assert of_left.quantisation_error_rel == pytest.approx(cost, rel=1e-6)
    assert 1e-3 < cost < 1e-1
    assert of_drawn.problem is not None, "what is stored is the input; what was drawn is nobody's"
    assert verdict(plain, drawn).quantisation_error_rel is None


def test_rounded_to_bfloat16_on_the_way_it_still_agrees() -> None:
    case = make_case(**FIELDS, kv_dtype="int8", dtype="bfloat16")
    q = torch.from_numpy(operand(case, "q")).bfloat16()
    k, v = (torch.from_numpy(operand(case, name)).bfloat16().repeat_interleave(2, 1) for name in ("k", "v"))
    weights = torch.softmax((q @ k.transpose(-1, -2)).float() * case.scale, -1).bfloat16()
    assert verdict(case, (weights @ v)[0].float().numpy()).problem is None


@pytest.mark.parametrize("fields", [{"seqlen_q": 0}, {"batch": 0}])
def test_an_output_without_rows_loses_nothing_and_agrees(fields: dict[str, object]) -> None:
    case = make_case(**{**FIELDS, **fields}, kv_dtype="int8")
    said = verdict(case, np.zeros(0, np.float32))
    assert said.problem is None
    assert said.quantisation_error_rel is None
