"""The gradient of a bias against its definition and finite differences, and its verdicts for all shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench import Case, make_case
from attnbench.cases.bias import tensor_bias
from attnbench.cases.inputs.operands import operand
from attnbench.cases.inputs.sign_flips import score_signs, value_signs
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import Mutant
from attnbench.mutants.trial import trial
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select
from tests.implementations.conftest import implementation
from tests.implementations.definition import Inputs, attention_by_definition

SIZES: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 5, "seqlen_kv": 7, "head_dim": 4}
ASKED: dict[str, Any] = {"score_mod": "bias", "bias_grad": True, "mode": "backward"}
SHAPES: list[dict[str, Any]] = [
    {},
    {"bias_file": "random:1:batch", "mask": "causal", "alignment": "bottom_right"},
    {"bias_file": "random:2:heads", "score_mod": "alibi & bias & sink"},
    {"bias_file": "random:3:batch+heads", "score_mod": "softcap & bias", "softcap": 0.7},
    {"bias_file": "random:4:queries", "mask": "key_padding", "kv_lengths": [0, 6]},
    {"bias_file": "random:5:batch+heads+queries"},
    {"bias_file": "random:6:batch+keys", "score_mod": "bias & sink"},
]


def asked(**fields: Any) -> Case:
    return make_case(**{**SIZES, **ASKED, **fields})


def inputs_of(case: Case, flip_index: int = 0) -> Inputs:
    """Return the case's inputs with the signs of a flip index."""
    sinks = operand(case, "sinks") if "sink" in case.score_mods else np.zeros(case.heads_q)
    q, k, v, dout = (operand(case, name).astype(np.float64) for name in ("q", "k", "v", "dout"))
    of_keys, of_values = (signs(case, flip_index)[:, :, None, None] for signs in (score_signs, value_signs))
    q = q * of_keys.repeat(case.heads_q // case.heads_kv, 1)
    return Inputs(q, k * of_keys, v * of_values, dout, np.zeros((case.heads_q, 32)), sinks.astype(np.float64))


@pytest.mark.parametrize("fields", SHAPES, ids=str)
def test_the_exact_gradient_is_the_definition_summed_over_broadcast_axes(fields: dict[str, Any]) -> None:
    case = asked(**fields)
    got = reference(case, select(case), 0, EXACT)["dbias"].numpy()
    due = attention_by_definition(case, inputs_of(case)).dbias
    assert due.shape == tensor_bias(case).shape
    np.testing.assert_allclose(got, due.reshape(got.shape), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 4, 5, 7), (1, 1, 5, 7), (4, 1, 7), (2, 1, 1, 7)], ids=str)
def test_it_is_how_the_output_follows_a_step_of_the_bias(shape: tuple[int, ...], tmp_path: Path) -> None:
    bias = np.random.default_rng(2).standard_normal(shape)
    bias[..., 3] = -np.inf

    def case_with(step: float, place: tuple[int, ...]) -> Case:
        moved = bias.copy()
        moved[place] += step
        path = tmp_path / f"{step}{place}.npz"
        np.savez(path, bias=moved)
        return asked(score_mod="softcap & bias", softcap=0.7, bias_file=str(path), dtype="float64")

    def loss(step: float, place: tuple[int, ...]) -> float:
        case = case_with(step, place)
        out = reference(case, select(case), 0, EXACT)["out"].numpy().reshape(2, 4, 5, 4)
        return float((operand(case, "dout") * out).sum())

    case = case_with(0.0, (0,) * len(shape))
    got = reference(case, select(case), 0, EXACT)["dbias"].numpy().reshape(shape)
    assert not got[..., 3].any(), "what is hidden has no gradient"
    for place in [tuple(size - 1 for size in shape), (0,) * len(shape)]:
        assert got[place] == pytest.approx((loss(1e-5, place) - loss(-1e-5, place)) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("fields", SHAPES, ids=str)
def test_it_follows_the_signs_of_timed_samples(fields: dict[str, Any]) -> None:
    case = asked(**fields)
    selection = select(case)
    for flip_index in (1, 2, 3):
        flipped = find_truth(case, selection, 0).flipped(case, selection, flip_index)
        answer = attention_by_definition(case, inputs_of(case, flip_index))
        for name in ("out", "dk", "dbias"):
            due = getattr(answer, name)
            got = flipped.answers[name].numpy().reshape(due.shape)
            np.testing.assert_allclose(got, due, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("axes", [":batch+heads", ":keys", ":batch+heads+queries+keys"])
def test_a_sound_implementation_agrees_even_where_the_gradient_is_zero(dtype: str, axes: str) -> None:
    """A bias shared by all keys changes no weight, so its gradient consists of rounding errors alone."""
    name = "naive/torch" if dtype == "bfloat16" else "naive/numpy"
    one = Mutant("peer", "", None, implementation(name.replace("/", "_"), name))
    assert trial(asked(bias_file=f"random:1{axes}", seqlen_q=40, dtype=dtype), [one]) == {"peer": None}


@pytest.mark.parametrize("mutant", [one for one in mutants() if one.name.startswith("dbias")], ids=lambda m: m.name)
def test_each_mistake_is_caught(mutant: Mutant) -> None:
    fields = {"heads_q": 6, "seqlen_q": 70, "seqlen_kv": 70, "bias_file": "random:3:batch+heads", "mask": "causal"}
    case = asked(**fields, score_mod="softcap & bias", softcap=2.0)
    assert "dbias" in str(trial(case, [mutant])[mutant.name])


def test_all_heads_of_a_long_sequence_are_judged() -> None:
    case = asked(batch=1, seqlen_q=1024, seqlen_kv=1024)
    selection = select(case)
    assert selection.rows is None
    assert len(selection.groups) == 2
    assert select(dataclasses.replace(case, bias_grad=None, heads_q=8, heads_kv=8)).groups != selection.groups
