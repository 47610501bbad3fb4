"""Implementations receive quantised K and V as stored numbers and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attnbench import Case, attention, make_case
from attnbench.cases.inputs.operands import operand
from attnbench.cases.inputs.sign_flips import score_signs, value_signs
from attnbench.cases.quantised import quantised
from attnbench.registry.implementation import Declaration, DeclarationError
from attnbench.worker.tensors import flip_signs, inputs_of, place, refresh

SMALL: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 9, "head_dim": 8, "head_dim_v": 4}
KINDS = [("torch", "int8"), ("torch", "float8_e4m3fn"), ("numpy", "int8")]


def declared(framework: Any, layout: Any = "bhsd") -> Declaration:
    declare = attention("mine/one", framework=framework, layout=layout, kv_dtypes=["none", "int8", "float8_e4m3fn"])
    return declare(lambda q, k, v, case: q).declaration


def left(tensor: Any, scale: Any) -> Any:
    return torch.as_tensor(tensor).float() * torch.as_tensor(scale)[..., None]


@pytest.mark.parametrize(("framework", "kv_dtype"), KINDS)
def test_numbers_are_of_the_stored_dtype_and_stand_for_the_case_s_values(framework: str, kv_dtype: str) -> None:
    case = make_case(**SMALL, kv_dtype=kv_dtype, dtype="float32")
    placed = place(case, declared(framework), "cpu")
    for name, tensor, scale in (("k", placed.k, placed.k_scale), ("v", placed.v, placed.v_scale)):
        stored, of_row = quantised(operand(make_case(**SMALL), name), kv_dtype)
        assert str(tensor.dtype).endswith(kv_dtype)
        assert np.array_equal(torch.as_tensor(tensor).float().numpy(), stored)
        assert np.array_equal(np.asarray(scale), of_row)
        assert np.array_equal(left(tensor, scale).numpy(), operand(case, name))
    assert np.array_equal(np.asarray(placed.q), operand(case, "q"))


@pytest.mark.parametrize("layout", ["bshd", "packed"])
def test_scales_lie_as_their_rows_do(layout: str) -> None:
    case = make_case(**SMALL, kv_dtype="int8")
    said = declared("torch", layout)
    placed = place(case, said, "cpu")
    assert placed.k_scale.shape == placed.k.shape[:-1]
    by_token = operand(case, "v").transpose(0, 2, 1, 3)
    assert np.array_equal(left(placed.v, placed.v_scale).numpy(), by_token.reshape(tuple(placed.v.shape)))
    assert np.array_equal(inputs_of(case, layout, placed)["v"], operand(case, "v"))


@pytest.mark.parametrize(("framework", "kv_dtype"), KINDS)
def test_other_values_come_in_the_same_memory(framework: str, kv_dtype: str) -> None:
    case, said = make_case(**SMALL, kv_dtype=kv_dtype), declared(framework)
    placed = place(case, said, "cpu")
    before = {name: getattr(placed, name) for name in ("k", "v", "k_scale", "v_scale")}
    fresh = refresh(case, said, placed, 3)
    assert all(getattr(fresh, name) is tensor for name, tensor in before.items())
    for name in ("k", "v"):
        assert np.array_equal(inputs_of(case, "bhsd", fresh)[name], operand(case, name, 3))


@pytest.mark.parametrize(("framework", "kv_dtype"), KINDS)
def test_signs_flip_in_what_is_stored(framework: str, kv_dtype: str) -> None:
    case, said = make_case(**SMALL, kv_dtype=kv_dtype), declared(framework)
    placed = place(case, said, "cpu")
    for number in (1, 2, 3):
        placed = flip_signs(case, said, placed, number)
    for name, signs in (("k", score_signs(case, 3)), ("v", value_signs(case, 3))):
        assert np.array_equal(inputs_of(case, "bhsd", placed)[name], operand(case, name) * signs[..., None, None])


def test_what_is_not_declared_is_refused_with_a_sentence() -> None:
    case: Case = make_case(kv_dtype="int8")
    plain = attention("mine/plain")(lambda q, k, v, case: q).declaration
    assert plain.refuses(case, "cpu") == "kv_dtype 'int8' is not declared (only none)"
    assert plain.refuses(make_case(), "cpu") is None
    with pytest.raises(DeclarationError, match="'int4' is none of none, int8"):
        attention("mine/wrong", kv_dtypes=["int4"])(lambda q, k, v, case: q)
    with pytest.raises(DeclarationError, match="not rewritten in place"):
        attention("mine/jax", framework="jax", kv_dtypes=["none", "int8"])(lambda q, k, v, case: q)
