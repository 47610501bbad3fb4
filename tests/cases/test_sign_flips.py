"""The signs of V flip from sample to sample, and the answer follows exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attnbench import Case, make_case
from attnbench.cases.inputs.operands import operand
from attnbench.cases.inputs.sample_inputs import Inputs, moved_from, moved_queries, queries_can_move
from attnbench.cases.inputs.sign_flips import score_signs, value_signs
from attnbench.oracle.answer import multihead, reference
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select
from attnbench.registry.implementation import attention
from attnbench.worker.tensors import flip_signs, move_queries, place, queries_in_a_row, refresh

SMALL: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 9, "head_dim": 8}


def test_before_any_turn_nothing_is_changed() -> None:
    assert (value_signs(make_case(**SMALL), 0) == 1).all()


@pytest.mark.parametrize("heads", [1, 3, 16])
def test_no_turn_leaves_everything_as_it_was(heads: int) -> None:
    case = make_case(heads_q=heads, seqlen_q=4)
    for number in range(1, 200):
        assert (value_signs(case, number) != value_signs(case, number - 1)).any()


@pytest.mark.parametrize(
    "fields",
    [{}, {"operator": "multi_head_attention"}, {"strides": "expanded_kv"}, {"mask": "causal", "mode": "backward"}],
    ids=str,
)
def test_the_answer_of_turned_values_is_the_answer_turned(fields: dict[str, Any], monkeypatch: Any) -> None:
    case = make_case(**{**SMALL, "mode": "backward", "dtype": "float64", **fields})
    selection = select(case)
    unflipped = find_truth(case, selection, 0)
    expected = unflipped.flipped(case, selection, 5).answers

    def turned_operand(case: Case, name: str, repetition: int = 0) -> Any:
        values = operand(case, name, repetition)
        if name not in ("q", "k", "v"):
            return values
        signs = (value_signs if name == "v" else score_signs)(case, 5)
        if name == "q":
            signs = signs.repeat(case.heads_q // case.heads_kv, axis=1)
        return values * (signs[:, :1, None] if values.ndim == 3 else signs[..., None, None])

    monkeypatch.setattr(multihead, "operand", turned_operand)
    monkeypatch.setattr(reference, "operand_head", lambda c, name, b, h, r: turned_operand(c, name, r)[b, h])
    for name, answer in find_truth(case, selection, 0).answers.items():
        torch.testing.assert_close(answer, expected[name])
        assert torch.equal(expected[name], unflipped.answers[name]) == (name in ("lse", "dv"))


@pytest.mark.parametrize("layout", ["bhsd", "bshd", "packed"])
@pytest.mark.parametrize("strides", ["contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv"])
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_worker_turns_its_tensors_as_the_oracle_expects(layout: Any, strides: str, framework: Any) -> None:
    case = make_case(**SMALL, strides=strides)
    said = attention("a/b", layout=layout, framework=framework)(lambda q, k, v, case: None).declaration
    operands = place(case, said, "cpu")
    for number in (1, 2, 3):
        operands = flip_signs(case, said, operands, number)
    signs = {"v": value_signs(case, 3), "k": score_signs(case, 3), "q": score_signs(case, 3).repeat(2, axis=1)}
    for name, of_heads in signs.items():
        expected = operand(case, name) * of_heads[..., None, None]
        assert np.array_equal(heads_first(getattr(operands, name), layout), expected)


@pytest.mark.parametrize("layout", ["bhsd", "bshd", "packed"])
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_values_of_a_latent_are_its_columns_and_turn_with_it(layout: Any, framework: Any) -> None:
    case = make_case(**SMALL, head_dim_v=6, kv_cache="latent")
    said = attention("a/b", layout=layout, framework=framework)(lambda q, k, v, case: None).declaration
    operands = refresh(case, said, place(case, said, "cpu"), 1)
    for number in (1, 2, 3):
        operands = flip_signs(case, said, operands, number)
    assert np.shares_memory(np.asarray(operands.k), np.asarray(operands.v))
    latent = heads_first(operands.k, layout)
    assert np.array_equal(latent, operand(case, "k", 1) * score_signs(case, 3)[..., None, None])
    assert np.array_equal(latent[..., :6], operand(case, "v", 1) * value_signs(case, 3)[..., None, None])


def heads_first(tensor: Any, layout: str) -> Any:
    values = np.asarray(tensor)
    if layout == "packed":
        values = values.reshape(2, 9, -1, 8)
    return values if layout == "bhsd" else values.transpose(0, 2, 1, 3)


@pytest.mark.parametrize("layout", ["bhsd", "bshd", "packed"])
@pytest.mark.parametrize("strides", ["contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv"])
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_worker_moves_its_queries_as_the_oracle_expects(layout: Any, strides: str, framework: Any) -> None:
    case = make_case(**SMALL, strides=strides)
    said = attention("a/b", layout=layout, framework=framework)(lambda q, k, v, case: None).declaration
    operands, inputs = place(case, said, "cpu"), Inputs(repetition=7, flip_index=6, moved=22)
    where = operands.q.__array_interface__ if framework == "numpy" else operands.q.data_ptr()
    moved = move_queries(case, said, operands, queries_in_a_row(case, said, "cpu", 7), inputs)
    assert where == (moved.q.__array_interface__ if framework == "numpy" else moved.q.data_ptr()), "in place"
    signs, found = score_signs(case, 6).repeat(2, axis=1), heads_first(moved.q, layout)
    for batch_index in range(2):
        for head in range(4):
            expected = moved_queries(case, batch_index, head, inputs) * signs[batch_index, head]
            assert np.array_equal(found[batch_index, head], expected)
            source, row = moved_from(case, head, 5, 22)
            assert np.array_equal(
                found[batch_index, head, 5], operand(case, "q", 7)[batch_index, source, row] * signs[batch_index, head]
            )


@pytest.mark.parametrize(
    ("fields", "can"),
    [
        ({}, True),
        ({"inputs": "needle"}, False),
        ({"operator": "multi_head_attention"}, False),
        ({"dtype": "float8_e4m3fn"}, False),
    ],
)
def test_queries_that_look_for_their_own_key_stay(fields: dict[str, Any], can: bool) -> None:
    assert queries_can_move(make_case(**SMALL, **fields)) == can


def test_pages_turn_too() -> None:
    case = make_case(**{**SMALL, "seqlen_q": 1}, seqlen_kv=37, kv_cache="paged", dtype="float8_e4m3fn")
    said = attention("a/b")(lambda q, k, v, case: None).declaration
    operands = place(case, said, "cpu")
    before = operands.v.float().clone()
    flip_signs(case, said, operands, 1)
    signs = torch.from_numpy(value_signs(case, 1)).float()
    assert operands.block_table is not None
    for batch_index, pages in enumerate(operands.block_table.tolist()):
        for page in pages:
            expected = before[page] * signs[batch_index][None, :, None]
            torch.testing.assert_close(operands.v[page].float(), expected, equal_nan=True)
