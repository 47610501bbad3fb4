from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.cases.case import Case, make_case
from attnbench.cases.choices import INPUT_FAMILIES
from attnbench.cases.inputs.operands import operand, operand_head, operand_shapes, output_shape
from attnbench.cases.tensors.errors import TensorError

if TYPE_CHECKING:
    from pathlib import Path

QKV = ("q", "k", "v", "dout")
SMALL: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 6, "seqlen_kv": 9, "head_dim": 8}


def digest(fields: dict[str, Any], repetition: int) -> dict[str, str]:
    case = make_case(**fields)
    return {
        name: hashlib.sha256(operand(case, name, repetition).tobytes()).hexdigest() for name in operand_shapes(case)
    }


CASES = [
    {**SMALL, "mode": "backward", "inputs": "outlier", "score_mod": "sink"},
    {**SMALL, "operator": "multi_head_attention", "score_mod": "relative_bias", "mode": "backward"},
    {**SMALL, "dtype": "float64", "strides": "expanded_kv", "seed": 5},
]


def test_values_are_the_same_in_another_process() -> None:
    script = """
import hashlib, json, sys
from attnbench.cases.case import Case, make_case
from attnbench.cases.choices import INPUT_FAMILIES
from attnbench.cases.inputs.operands import operand, operand_shapes
cases = [make_case(**fields) for fields in json.loads(sys.argv[1])]
digest = lambda case, name: hashlib.sha256(operand(case, name, 3).tobytes()).hexdigest()
digests = [{name: digest(case, name) for name in reversed(operand_shapes(case))} for case in cases]
print(json.dumps(digests))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(CASES)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [digest(fields, 3) for fields in CASES]


@settings(max_examples=50)
@given(data=st.data())
def test_every_tensor_has_the_shape_and_type_that_the_case_says(
    data: st.DataObject, any_case: st.SearchStrategy[Case]
) -> None:
    case = data.draw(any_case)
    for name, shape in operand_shapes(case).items():
        values = operand(case, name)
        assert values.shape == shape
        assert values.dtype == (np.float64 if case.dtype == "float64" else np.float32)
        assert np.isfinite(values).all()


def test_shapes_of_attention() -> None:
    shapes = operand_shapes(make_case(**SMALL, head_dim_v=5, mode="backward", score_mod="sink"))
    assert shapes == {"q": (2, 4, 6, 8), "k": (2, 2, 9, 8), "v": (2, 2, 9, 5), "dout": (2, 4, 6, 5), "sinks": (4,)}


def test_shapes_of_a_whole_layer() -> None:
    case = make_case(**SMALL, head_dim_v=5, operator="multi_head_attention", score_mod="relative_bias")
    assert operand_shapes(case) == {
        "q": (2, 6, 32), "k": (2, 9, 32), "v": (2, 9, 32),
        "w_q": (32, 32), "w_k": (32, 16), "w_v": (32, 10), "w_o": (20, 32), "relative_bias": (4, 32),
    }  # fmt: skip
    assert output_shape(case) == (2, 6, 32)


@pytest.mark.parametrize("inputs", INPUT_FAMILIES)
@pytest.mark.parametrize("strides", ["contiguous", "expanded_kv"])
def test_a_head_is_that_part_of_the_whole_tensor(inputs: str, strides: str) -> None:
    case = make_case(**SMALL, mode="backward", inputs=inputs, strides=strides)
    for name in QKV:
        whole = operand(case, name, 2)
        for b, head in np.ndindex(whole.shape[:2]):
            assert np.array_equal(whole[b, head], operand_head(case, name, b, head, 2))


def test_expanded_keys_and_values_are_one_head_seen_often() -> None:
    case = make_case(**SMALL, strides="expanded_kv")
    for name in ("k", "v"):
        values = operand(case, name)
        assert np.array_equal(values[:, 0], values[:, 1])
    q = operand(case, "q")
    assert not np.array_equal(q[:, 0], q[:, 1])


def test_no_two_heads_tensors_batch_elements_or_repetitions_share_values() -> None:
    case = make_case(batch=2, heads_q=2, seqlen_q=7, head_dim=8, mode="backward")
    planes = [operand_head(case, *index) for index in itertools.product(QKV, (0, 1), (0, 1), (0, 1, 2))]
    firsts = {float(plane[0, 0]) for plane in planes}
    assert len(firsts) == len(planes) == 48


def test_another_repetition_has_other_examples_but_the_same_model() -> None:
    case = make_case(**CASES[1])
    for name in operand_shapes(case):
        same = np.array_equal(operand(case, name, 0), operand(case, name, 1))
        assert same == (name not in QKV)


def test_another_seed_has_another_model_too() -> None:
    one, other = (make_case(**{**CASES[1], "seed": seed}) for seed in (0, 1))
    for name in operand_shapes(one):
        assert not np.array_equal(operand(one, name), operand(other, name))


def test_values_do_not_depend_on_what_is_asked_of_them() -> None:
    # The same example in another dtype, with another mask: errors can be compared.
    plain = make_case(**SMALL)
    other = make_case(**SMALL, dtype="bfloat16", mask="causal", mode="backward", scale=0.5)
    assert np.array_equal(operand(plain, "k"), operand(other, "k"))


BIG: dict[str, Any] = {"heads_q": 4, "seqlen_q": 512, "head_dim": 64}


class TestFamilies:
    @pytest.mark.parametrize("name", ["q", "k", "v"])
    def test_normal_is_standard_normal(self, name: str) -> None:
        values = operand(make_case(**BIG), name)
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 1) < 0.02
        assert abs(np.mean(values**4) - 3) < 0.2

    def test_outliers_are_rare_and_large(self) -> None:
        values = operand(make_case(**BIG, inputs="outlier"), "q")
        assert 0.0002 < np.mean(np.abs(values) > 6) < 0.001  # 0.001 of them with a deviation of 10: 55 % beyond 6
        assert abs(np.median(np.abs(values)) - 0.6745) < 0.02

    def test_large_logits_are_beyond_what_exp_can_hold(self) -> None:
        case = make_case(**BIG, inputs="large_logits")
        q, k, v = (operand_head(case, name, 0, 0) for name in ("q", "k", "v"))
        assert np.abs(q @ k.T * case.scale).max() > 88.8  # exp overflows in float32
        assert abs(v.std() - 1) < 0.05

    def test_constant_keys_tie_every_score_of_a_row(self) -> None:
        case = make_case(**BIG, inputs="constant")
        q, k, v = (operand_head(case, name, 0, 0) for name in ("q", "k", "v"))
        assert (k == k[0]).all()
        assert np.ptp(q, axis=0).min() > 1
        assert np.ptp(v, axis=0).min() > 1
        assert not np.array_equal(operand_head(case, "k", 0, 1)[0], k[0])

    def test_weights_keep_the_variance(self) -> None:
        case = make_case(operator="multi_head_attention", heads_q=8, heads_kv=2, head_dim=32, seqlen_q=64)
        for weight in ("w_q", "w_k", "w_v"):
            projected = operand(case, "q") @ operand(case, weight)
            assert 0.9 < projected.std() < 1.1


class TestInputsFromAFile:
    @pytest.fixture
    def arrays(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        generator = np.random.default_rng(0)
        shapes = operand_shapes(make_case(**SMALL, mode="backward"))
        return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}

    @pytest.fixture
    def case(self, tmp_path: Path, arrays: dict[str, Any]) -> Case:
        np.savez(tmp_path / "captured.npz", **arrays)
        return make_case(**SMALL, mode="backward", inputs=f"file:{tmp_path}/captured.npz")

    def test_are_the_files(self, case: Case, arrays: dict[str, Any]) -> None:
        for name, values in arrays.items():
            assert np.array_equal(operand(case, name), values)
            assert np.array_equal(operand_head(case, name, 1, 1), values[1, 1])

    def test_are_turned_to_the_cases_precision(self, tmp_path: Path, arrays: dict[str, Any]) -> None:
        np.savez(tmp_path / "half.npz", **{name: values.astype(np.float16) for name, values in arrays.items()})
        case = make_case(**SMALL, dtype="float64", inputs=f"file:{tmp_path}/half.npz")
        assert operand(case, "q").dtype == np.float64

    def test_differ_between_repetitions_by_the_sign_of_the_values(self, case: Case, arrays: dict[str, Any]) -> None:
        assert np.array_equal(operand(case, "v", 1), -arrays["v"])
        assert np.array_equal(operand_head(case, "v", 1, 0, 1), -arrays["v"][1, 0])
        assert np.array_equal(operand(case, "v", 2), arrays["v"])
        assert np.array_equal(operand(case, "q", 1), arrays["q"])

    def test_of_the_wrong_shape_are_refused(self, case: Case) -> None:
        other = make_case(**{**case.to_dict(), "head_dim": 4, "scale": None})
        with pytest.raises(TensorError, match=r"q has shape \(2, 4, 6, 8\), the case says \(2, 4, 6, 4\)$"):
            operand(other, "q")

    def test_that_lack_an_array_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "only.npz", q=np.zeros((2, 4, 6, 8)))
        case = make_case(**SMALL, inputs=f"file:{tmp_path}/only.npz")
        with pytest.raises(TensorError, match=r"only\.npz': no array 'k' could be read"):
            operand(case, "k")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", b"plain text"])
    def test_in_a_broken_file_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "broken.npz").write_bytes(content)
        case = make_case(**SMALL, inputs=f"file:{tmp_path}/broken.npz")
        with pytest.raises(TensorError, match="no array 'q' could be read"):
            operand(case, "q")

    def test_in_a_file_of_one_array_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "one.npy", np.zeros((2, 4, 6, 8)))
        case = make_case(**SMALL, inputs=f"file:{tmp_path}/one.npy")
        with pytest.raises(TensorError, match="no array 'q' could be read"):
            operand(case, "q")

    def test_in_no_file_are_refused(self, tmp_path: Path) -> None:
        case = make_case(**SMALL, inputs=f"file:{tmp_path}/none.npz")
        with pytest.raises(TensorError, match=r"no array 'q' could be read: .*No such file"):
            operand(case, "q")
