"""Masks and biases that are tensors: drawn ones are the same everywhere, others equal their files."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench import attention
from attnbench.cases.bias import dense_bias, score_bias, tensor_bias
from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.inputs.operands import file_problems
from attnbench.cases.masks import dense_mask, row_runs, visible_pairs
from attnbench.cases.tensors.errors import TensorError

MASK: dict[str, Any] = {"batch": 2, "heads_q": 3, "seqlen_q": 5, "seqlen_kv": 7, "mask": "tensor"}
BIAS: dict[str, Any] = {"batch": 2, "heads_q": 3, "seqlen_q": 5, "seqlen_kv": 7, "score_mod": "bias"}


def truth(*shape: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.random.default_rng(1).random(shape) < 0.5


def with_mask(path: Path, mask: Any, **fields: Any) -> Case:
    np.savez(path / "mask.npz", mask=mask)
    return make_case(**{**MASK, **fields}, mask_file=str(path / "mask.npz"))


def with_bias(path: Path, bias: Any, **fields: Any) -> Case:
    np.savez(path / "bias.npz", bias=bias)
    return make_case(**{**BIAS, **fields}, bias_file=str(path / "bias.npz"))


class TestDrawn:
    def test_masks_differ_by_seed_and_sequence_and_by_nothing_else(self) -> None:
        masks = {
            seed: dense_mask(make_case(batch=2, seqlen_q=200, mask="tensor", mask_file=f"random:{seed}", heads_q=h))
            for seed, h in ((1, 1), (2, 4))
        }
        planes = [*masks[1][:, 0], *masks[2][:, 0]]
        assert all(np.mean(a != b) > 0.4 for a, b in itertools.combinations(planes, 2))
        again = make_case(
            batch=2, seqlen_q=200, mask="tensor", mask_file="random:1", seed=9, dtype="float16", heads_q=6
        )
        assert np.array_equal(dense_mask(again), masks[1])

    def test_masks_have_rows_of_many_runs_and_of_few_and_rows_that_see_nothing(self) -> None:
        case = make_case(seqlen_q=400, mask="tensor")
        runs = (np.diff(row_runs(case, 0)).squeeze(-1) > 0).sum(1)
        assert runs.min() == 0
        assert runs.max() > 80
        assert ((runs > 0) & (runs < 6)).any()
        assert 0.4 < visible_pairs(case) / 400**2 < 0.6

    def test_biases_differ_in_every_head_and_are_exact_in_every_dtype(self) -> None:
        case = make_case(batch=2, heads_q=2, seqlen_q=100, score_mod="bias", bias_file="random:5")
        bias = dense_bias(case, None)
        assert bias is not None
        assert bias.shape == (2, 2, 100, 100)
        planes = bias.reshape(4, 100, 100)
        assert all(np.mean(a != b) > 0.9 for a, b in itertools.combinations(planes, 2))
        finite = bias[np.isfinite(bias)]
        assert np.array_equal(finite * 16, np.round(finite * 16))
        assert np.abs(finite).max() <= 8
        assert 0.02 < np.isneginf(bias).mean() < 0.045
        want = score_bias(case, 1, np.arange(4, 9), np.arange(50), None, batch_index=1)
        assert want is not None
        assert np.array_equal(bias[1, 1, 4:9, :50], want)

    def test_ids_and_labels_have_the_seed(self) -> None:
        one, other = (make_case(mask="causal & tensor", mask_file=f"random:{seed}") for seed in (0, 1))
        assert make_case(mask="tensor & causal").case_id == one.case_id != other.case_id
        assert other.label().endswith("causal & tensor random:1")
        assert make_case(mask_file="random:1", bias_file="random:1").case_id == make_case().case_id

    @pytest.mark.parametrize(
        "text", ["random:", "random:-1", "random:1.5", "random:²", f"random:{2**63}", "", "a\0b", 3]
    )
    def test_what_is_no_seed_and_no_file_is_refused(self, text: Any) -> None:
        for fields in ({"mask": "tensor", "mask_file": text}, {"score_mod": "bias", "bias_file": text}):
            with pytest.raises(CaseError, match=r"^(mask|bias)_file = .* is not"):
                make_case(**fields)


class TestOfFiles:
    @pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 1, 5, 7), (5, 7), (7,), (2, 1, 1, 7), (5, 1), (1, 5, 1)])
    def test_a_mask_is_broadcast_as_numpy_does(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        mask = truth(*shape)
        case = with_mask(tmp_path, mask)
        assert file_problems(case) == []
        assert np.array_equal(dense_mask(case), np.broadcast_to(mask, (2, 1, 5, 7)))

    @pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3, 5, 7), (3, 1, 1), (2, 1, 5, 7), (5, 7), (1,)])
    def test_a_bias_is_broadcast_as_numpy_does(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        bias = np.random.default_rng(2).standard_normal(shape)
        case = with_bias(tmp_path, bias)
        found = dense_bias(case, None)
        assert found is not None
        whole = np.broadcast_to(bias, (2, 3, 5, 7))
        assert np.array_equal(np.broadcast_to(found, whole.shape), whole)
        some = score_bias(case, 2, np.array([4]), np.array([6, 0]), None, 1)
        assert some is not None
        assert np.array_equal(some, whole[1, 2, 4:, [6, 0]].T)

    def test_numbers_0_and_1_are_a_mask_and_bytes_of_truth_may_be_any(self, tmp_path: Path) -> None:
        mask = truth(5, 7)
        assert np.array_equal(dense_mask(with_mask(tmp_path, mask.astype("u1")))[0, 0], mask)
        header = json.dumps({"mask": {"dtype": "BOOL", "shape": [5, 7], "data_offsets": [0, 35]}}).encode()
        data = (mask.astype("u1") * 0x82).tobytes()
        (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
        case = make_case(**MASK, mask_file=str(tmp_path / "a.safetensors"))
        assert visible_pairs(case) == 2 * int(mask.sum())
        assert np.array_equal(dense_mask(case)[1, 0], mask)

    @pytest.mark.parametrize(
        ("mask", "sentence"),
        [
            (truth(2, 3, 5, 7), "heads share a mask; one for each head is a bias of 0 and -inf, score_mod = 'bias'"),
            (truth(5, 6), r"mask has shape \(5, 6\), which does not broadcast to \(2, 1, 5, 7\)"),
            (truth(1, 2, 1, 5, 7), "does not broadcast"),
            (
                np.zeros((5, 7), "f4"),
                "is of the dtype float32, not bool: floats that are added to scores are score_mod",
            ),
            (np.full((5, 7), 2, "u1"), "holds other numbers than 0 and 1"),
            (np.zeros((5, 7), "i8"), "is of the dtype 'int64', not one of"),
        ],
    )
    def test_what_is_no_mask_is_told(self, tmp_path: Path, mask: Any, sentence: str) -> None:
        case = with_mask(tmp_path, mask)
        (problem,) = file_problems(case)
        with pytest.raises(TensorError, match=sentence) as refused:
            dense_mask(case)
        assert str(refused.value) == problem
        assert problem.startswith(f"mask_file = '{tmp_path}/mask.npz': ")

    @pytest.mark.parametrize(
        ("bias", "sentence"),
        [
            (np.full((5, 7), np.nan), r"bias holds NaN or \+inf; it may be finite, or -inf"),
            (np.full((5, 7), np.inf), r"bias holds NaN or \+inf"),
            (truth(5, 7), "is of the dtype bool, not one of .*: truth values are mask = 'tensor'"),
            (np.zeros((4, 5, 7)), r"bias has shape \(4, 5, 7\), which does not broadcast to \(2, 3, 5, 7\)"),
        ],
    )
    def test_what_is_no_bias_is_told(self, tmp_path: Path, bias: Any, sentence: str) -> None:
        case = with_bias(tmp_path, bias)
        (problem,) = file_problems(case)
        with pytest.raises(TensorError, match=sentence) as refused:
            dense_bias(case, None)
        assert str(refused.value) == problem

    def test_a_file_that_is_not_there_is_told(self) -> None:
        (problem,) = file_problems(make_case(**MASK, mask_file="nothere.npz"))
        assert problem.startswith("mask_file = 'nothere.npz': no array 'mask' could be read: ")


class TestBroadcast:
    def test_what_is_drawn_has_one_along_the_axes_that_are_named(self) -> None:
        shared = make_case(**BIAS, bias_file="random:5:batch+queries")
        assert tensor_bias(shared).shape == (1, 3, 1, 7)
        assert np.array_equal(
            tensor_bias(make_case(**{**BIAS, "batch": 1, "seqlen_q": 1}, bias_file="random:5")), tensor_bias(shared)
        )
        mask = make_case(**MASK, mask_file="random:5:batch")
        assert np.array_equal(row_runs(mask, 0), row_runs(mask, 1))

    @pytest.mark.parametrize("axes", ["", "rows", "batch+", "batch+batch", "batch,heads"])
    def test_other_axes_are_refused(self, axes: str) -> None:
        with pytest.raises(CaseError, match=r"is not random:SEED:AXES with some of batch, heads, queries, keys"):
            make_case(**BIAS, bias_file=f"random:5:{axes}")


class TestGradient:
    def test_a_case_asks_for_it(self) -> None:
        case = make_case(**BIAS, mode="backward", bias_grad=True)
        assert case.gradients == ("dq", "dk", "dv", "dbias")
        assert case.label().endswith("bias random:0 dbias")
        assert make_case(**case.to_dict()) == case
        plain = make_case(**BIAS, mode="backward")
        assert make_case(**BIAS, mode="backward", bias_grad=False) == plain
        assert plain.case_id != case.case_id
        assert make_case(**BIAS).gradients == ()

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"mode": "forward"}, "a mode with gradients"),
            ({"score_mod": "alibi"}, "it needs score_mod = 'bias'"),
            ({"operator": "multi_head_attention"}, "operator = 'attention'"),
            ({"seqlen_q": 2**12, "seqlen_kv": 2**12}, "is 100,663,296, above 8,388,608"),
            ({"bias_grad": 1}, "bias_grad = 1 is not true or false"),
        ],
        ids=str,
    )
    def test_where_there_is_none_it_is_refused(self, fields: dict[str, Any], sentence: str) -> None:
        with pytest.raises(CaseError, match=sentence):
            make_case(**{**BIAS, "mode": "backward", "bias_grad": True, **fields})

    def test_what_does_not_declare_it_refuses(self) -> None:
        said = attention("mine/one", modes=["backward"], score_mods=["bias"], dtypes=["float32"])(
            lambda q, k, v, case: q
        )
        case = make_case(**BIAS, mode="backward", bias_grad=True)
        refused = dataclasses.replace(said.declaration, alignments=("top_left",)).refuses(case, "cpu")
        assert refused == "the gradient of the bias is asked for, and bias_grad is not declared"
