"""Verdicts notice the mistakes that they claim to notice."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from attnbench import make_case
from attnbench.oracle.answer.arithmetic import Arithmetic
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.budget import budget, measure, scales
from attnbench.oracle.judge import find_truth
from attnbench.oracle.power.noticed import noticed
from attnbench.oracle.selection import select

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case
    from attnbench.oracle.judge import Truth

EXACT = Arithmetic("float64")


def is_noticed(case: Case, truth: Truth, got: Tensor) -> bool:
    error = measure(got, truth.answers["out"], per_value=False)
    rel, most = budget(case, "out", truth.low_precision["out"], truth.terms.get("out"))
    return error.rel > rel or error.max > most


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_error_of_one_row_is_noticed_from_there_on(dtype: str) -> None:
    case = make_case(seqlen_q=64, heads_q=2, dtype=dtype, seed=3)
    truth = find_truth(case, select(case), 0)
    least = noticed(case, truth, [0, 1])["noticed_row_error"]
    answer = truth.answers["out"]
    row = int(scales(answer)[1][0].argmax())
    for share, is_seen in ((0.95, False), (1.05, True)):
        got = answer.clone()
        got[0, row] *= 1 + share * least
        assert is_noticed(case, truth, got) == is_seen


@pytest.mark.parametrize(("dtype", "seqlen"), [("bfloat16", 512), ("bfloat16", 4096), ("float16", 4096)])
def test_dropped_keys_are_noticed_about_from_that_number_on(dtype: str, seqlen: int) -> None:
    """All keys are equal, so their weights are, too."""
    lengths = {"seqlen_q": 32, "seqlen_kv": seqlen, "mask": "key_padding", "kv_lengths": [seqlen]}
    case = make_case(heads_q=1, dtype=dtype, inputs="constant", seed=3, **lengths)
    truth = find_truth(case, select(case), 0)
    predicted = noticed(case, truth, [0])["noticed_dropped_keys"]
    counts = [2**n for n in range(seqlen.bit_length() - 1)]
    first = next(
        count
        for count in counts
        if is_noticed(
            case,
            truth,
            reference(dataclasses.replace(case, kv_lengths=(seqlen - count,)), select(case), 0, EXACT)["out"],
        )
    )
    assert first / 8 <= predicted <= 8 * first


def test_a_coarser_dtype_notices_less() -> None:
    found = [
        noticed(case, find_truth(case, select(case), 0), [0])["noticed_weight_share"]
        for case in (make_case(heads_q=1, seqlen_q=256, dtype=dtype) for dtype in ("float64", "float32", "bfloat16"))
    ]
    assert found == sorted(found)
    assert found[0] < 1e-12
