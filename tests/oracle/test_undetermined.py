"""NaN and inf among the inputs: hidden ones change nothing, and with visible ones the answer is undefined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, Any] = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 12, "head_dim": 8, "mode": "backward"}
PADDED: dict[str, Any] = {"mask": "key_padding", "kv_lengths": [7, 4]}


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    heads = {"q": 4, "k": 2, "v": 2, "dout": 4}
    return {name: generator.standard_normal((2, count, 12, 8), np.float32) for name, count in heads.items()}


def case_of(folder: Path, arrays: dict[str, np.ndarray[Any, Any]], **fields: Any) -> Case:
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]  # numpy's own, of its last argument
    return make_case(**FIELDS, **fields, inputs=f"file:{folder}/inputs.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("names", ["k", "v", "kv"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_the_mask_hides_changes_no_answer(tmp_path: Path, value: float, names: str, dtype: str) -> None:
    arrays = tensors()
    plain = find_truth(case := case_of(tmp_path, arrays, dtype=dtype, **PADDED), select(case), 0)
    for name in names:
        arrays[name][0, :, 7:] = value
        arrays[name][1, :, 4:] = value
    case_of(tmp_path, arrays, dtype=dtype, **PADDED)
    padded = find_truth(case, select(case), 0)
    for name, answer in plain.answers.items():
        torch.testing.assert_close(padded.answers[name], answer, rtol=1e-12, atol=1e-12)
        assert padded.low_precision[name].rel == pytest.approx(plain.low_precision[name].rel, rel=1e-6)
    assert all(term.rel < np.inf and term.max < np.inf for term in padded.terms.values())


def test_a_row_that_does_not_see_it_keeps_its_answer_beside_one_that_does(tmp_path: Path) -> None:
    arrays = tensors()
    arrays["v"][0, 1, 9] = np.nan
    case = case_of(tmp_path, arrays, mask="causal")
    with pytest.raises(CaseError, match=r"a query meets NaN or inf, or overflows \(NaN in out, lse, dq, dk, dv\)"):
        find_truth(case, select(case), 0)


@pytest.mark.parametrize("name", ["q", "k", "v", "dout"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_a_query_sees_leaves_no_answer(tmp_path: Path, name: str, value: float) -> None:
    arrays = tensors()
    arrays[name][1, 1, 2, 3] = value
    case = case_of(tmp_path, arrays, **PADDED)
    with pytest.raises(CaseError, match="there is no right answer"):
        find_truth(case, select(case), 0)


def test_what_overflows_on_its_way_to_the_dtype_is_seen_too(tmp_path: Path) -> None:
    arrays = {name: values.astype(np.float64) for name, values in tensors().items()}
    arrays["q"][0, 0, 0, 0] = 1e300
    case = case_of(tmp_path, arrays)
    with pytest.raises(CaseError, match="there is no right answer"):
        find_truth(case, select(case), 0)
