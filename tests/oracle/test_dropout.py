"""Dropout: the answer follows from the mask of kept weights, and that mask must be random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attnbench import Case, attention, make_case
from attnbench.cases.case import CaseError
from attnbench.cases.dropout import dropout_seed, equal_by_chance
from attnbench.cases.inputs.operands import operand
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import Mutant
from attnbench.mutants.trial import trial
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.dropout import mask_problem
from attnbench.oracle.answer.reference import references
from attnbench.oracle.selection import requests, select
from attnbench.sweep.fields import parse_value
from attnbench.worker.call import refusal
from tests.implementations.conftest import implementation
from tests.implementations.definition import Inputs, attention_by_definition

SIZES: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 5, "seqlen_kv": 7, "head_dim": 4}
SMALL: dict[str, Any] = {"batch": 2, "heads_q": 4, "seqlen_q": 64, "dropout": 0.25}


@pytest.mark.parametrize(
    "fields",
    [{}, {"mask": "causal"}, {"score_mod": "softcap & sink", "softcap": 0.7}, {"score_mod": "bias", "bias_grad": True}],
    ids=str,
)
def test_the_exact_answer_with_a_mask_is_the_definition(fields: dict[str, Any]) -> None:
    case = make_case(**{**SIZES, "dropout": 0.3, "mode": "backward", **fields})
    kept = np.random.default_rng(3).random((2, 4, 5, 7)) >= 0.3
    kept[0, 1, 2] = False  # a row without any weight
    factors = torch.from_numpy(kept.reshape(8, 5, 7)).double() / 0.7
    (got,) = references(case, select(case), 0, [EXACT], kept=factors)
    sinks = operand(case, "sinks") if "sink" in case.score_mods else np.zeros(4)
    q, k, v, dout = (operand(case, name).astype(np.float64) for name in ("q", "k", "v", "dout"))
    answer = attention_by_definition(case, Inputs(q, k, v, dout, np.zeros((4, 32)), sinks.astype(np.float64)), kept)
    for name in ("out", "lse", *case.gradients):
        due = getattr(answer, name)
        np.testing.assert_allclose(got[name].numpy().reshape(due.shape), due, rtol=1e-12, atol=1e-14)


def problem_of(case: Case, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> str | None:
    wanted = requests(case, select(case))["kept"]
    return mask_problem(case, kept.reshape(-1, *kept.shape[2:]), wanted)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("fields", [{}, {"mask": "causal"}, {"seqlen_q": 1, "seqlen_kv": 3}], ids=str)
def test_a_sound_generator_is_never_refused(p: float, fields: dict[str, Any]) -> None:
    case = make_case(**{**SMALL, "dropout": p, **fields})
    generator = np.random.default_rng(1)
    for _ in range(40):
        assert problem_of(case, generator.random((2, 4, case.seqlen_q, case.seqlen_kv)) >= p) is None


@pytest.mark.parametrize(
    ("axis", "apart", "said"),
    [
        (0, 1, "sequences 0 and 1"),
        (1, 1, "heads 0 and 1"),
        (1, 2, "heads 0 and 2"),
        (2, 1, "rows that are 1 apart"),
        (2, 16, "rows that are 16 apart"),
        (3, 8, "keys that are 8 apart"),
    ],
)
def test_weights_that_share_their_fate_are_found(axis: int, apart: int, said: str) -> None:
    case = make_case(**SMALL)
    kept = np.random.default_rng(1).random((2, 4, 64, 64)) >= 0.25
    alike = np.take(kept, np.arange(kept.shape[axis]) % apart, axis)
    problem = problem_of(case, alike)
    assert problem is not None
    assert "were kept, not 0.75" in problem or said in problem
    if apart > 1:
        assert said in problem


def test_a_share_that_is_off_by_little_is_found_where_there_are_many_weights() -> None:
    case = make_case(**{**SMALL, "seqlen_q": 512})
    kept = np.random.default_rng(1).random((2, 4, 512, 512)) >= 0.24
    assert "of the weights of batch 0, head 0 were kept, not 0.75" in str(problem_of(case, kept))


def test_what_the_mask_hides_need_not_be_drawn() -> None:
    case = make_case(**SMALL, mask="causal")
    kept = np.tril(np.random.default_rng(1).random((2, 4, 64, 64)) >= 0.25)
    assert problem_of(case, kept) is None


def test_seeds_follow_the_inputs_and_equal_masks_are_told_from_chance() -> None:
    case = make_case(**SMALL)
    assert dropout_seed(case, 0) == dropout_seed(make_case(**{**SMALL, "heads_q": 1}), 0)
    seeds = {dropout_seed(make_case(seed=seed), repetition) for seed in (0, 1) for repetition in (0, 1)}
    assert len(seeds) == 4
    assert equal_by_chance(make_case(batch=1, heads_q=1, seqlen_q=2, dropout=0.5), 4) == pytest.approx(0.5**4)
    causal = make_case(batch=1, heads_q=2, seqlen_q=2, dropout=0.5, mask="causal")
    assert equal_by_chance(causal, 8) == pytest.approx(0.5**6)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", ["naive/numpy", "naive/torch", "torch/sdpa", "torch/sdpa-math"])
def test_sound_implementations_agree(name: str, dtype: str) -> None:
    module = "pytorch.sdpa" if "sdpa" in name else name.replace("/", "_")
    one = implementation(module, name)
    if dtype not in one.declaration.dtypes:
        pytest.skip("numpy has no such type")
    case = make_case(**{**SIZES, "seqlen_q": 40, "dropout": 0.3, "mode": "forward_backward"}, dtype=dtype)
    assert trial(case, [Mutant("peer", "", None, one)]) == {"peer": None}


@pytest.mark.parametrize("mutant", [one for one in mutants() if one.name.startswith("dropout")], ids=lambda m: m.name)
def test_each_mistake_is_caught(mutant: Mutant) -> None:
    case = make_case(batch=2, heads_q=2, seqlen_q=70, head_dim=8, dropout=0.25, mode="backward")
    assert trial(case, [mutant])[mutant.name] is not None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dropout": 1.0}, "dropout = 1.0 is not a probability from 0 to below 1"),
        ({"dropout": True}, "dropout = True is not a probability"),
        ({"operator": "multi_head_attention"}, "dropout = 0.25 is of training"),
        ({"mode": "forward", "kv_cache": "paged"}, "dropout = 0.25 is of training"),
        ({"mode": "forward", "kv_dtype": "int8"}, "neither ragged batches nor eight bits"),
    ],
    ids=str,
)
def test_what_cannot_be_dropped_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CaseError, match=sentence):
        make_case(**{**SMALL, **fields})


def test_a_case_has_it_or_not() -> None:
    case = make_case(**SMALL)
    assert case.label().endswith("dropout 0.25")
    assert make_case(**case.to_dict()) == case
    plain = make_case(**{**SMALL, "dropout": 0})
    assert plain == make_case(**{name: value for name, value in SMALL.items() if name != "dropout"})
    assert plain.case_id != case.case_id
    assert [parse_value("dropout", text) for text in ("0", "0.1")] == [0.0, 0.1]


def test_who_does_not_declare_it_or_cannot_tell_refuses() -> None:
    case = make_case(**SMALL)
    plain = attention("mine/plain")(lambda q, k, v, case: q)
    assert refusal(plain, case, "cpu") == "weights are to be dropped, and dropout is not declared on the device 'cpu'"
    silent = attention("mine/silent", dropout=["cpu"])(lambda q, k, v, case: q)
    assert refusal(silent, case, "cpu") == "nobody could tell which weights it drops: give it @f.kept"
