"""The judge accepts correct outputs, and rejects wrong ones with a sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attnbench import Case, make_case
from attnbench.oracle.judge import Judgement, find_truth, judge
from attnbench.oracle.selection import requests, select
from attnbench.stages.agreement import Shape

Change = Callable[[dict[str, torch.Tensor]], None]


def judged(case: Case, change: Change | None = None, *, dtype: str | None = None) -> Judgement:
    """Judge the answer rounded to the dtype, after applying a change to it."""
    selection = select(case)
    truth = find_truth(case, selection, 0)
    outputs = {name: tensor.clone() for name, tensor in truth.answers.items()}
    if change is not None:
        change(outputs)
    described, shown = {}, {}
    wanted = requests(case, selection)
    for name, tensor in outputs.items():
        kept = "float32" if name == "lse" and case.dtype != "float64" else (dtype or case.output_dtype)
        stored = tensor.to(getattr(torch, kept))
        bits = stored.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[stored.element_size()])
        shown[name] = bits.numpy().tobytes()
        described[name] = Shape(shape=wanted[name].shape, dtype=kept)
    return judge(case, selection, truth, described, shown)


CAUSAL = {"heads_q": 2, "seqlen_q": 48, "mask": "causal", "mode": "backward"}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_answer_rounded_to_the_dtype_agrees(dtype: str) -> None:
    judgement = judged(make_case(**CAUSAL, dtype=dtype))
    assert judgement.problem is None
    for name in ("out", "lse", "dq", "dk", "dv"):
        assert getattr(judgement.metrics, f"{name}_error_ratio") <= 0.6, "one rounding is well within the budget"


@pytest.mark.parametrize("name", ["out", "lse", "dq", "dk", "dv"])
def test_each_tensor_is_judged_by_itself(name: str) -> None:
    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs[name] *= 1.001

    judgement = judged(make_case(**CAUSAL), change)
    assert judgement.problem is not None
    assert judgement.problem.startswith(f"{name}: ")
    assert getattr(judgement.metrics, f"{name}_error_ratio") > 1
    others = {"out", "lse", "dq", "dk", "dv"} - {name}
    assert all(getattr(judgement.metrics, f"{other}_error_ratio") <= 1 for other in others)


def test_one_wrong_row_among_many_is_found_and_located() -> None:
    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["out"][3, 700, 5] += 0.01

    judgement = judged(make_case(seqlen_q=704), change)
    assert judgement.problem is not None
    assert "worst at batch 0, head 3, row 700, column 5" in judgement.problem
    assert judgement.metrics.out_error_worst == (0, 3, 700, 5)


def test_the_location_is_that_of_the_whole_tensor_when_rows_are_sampled() -> None:
    case = make_case(heads_q=4, seqlen_q=4096, head_dim=16)
    rows = select(case).rows
    assert rows is not None

    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["out"][2, 10] += 1

    judgement = judged(case, change)
    assert judgement.metrics.out_error_worst is not None
    assert judgement.metrics.out_error_worst[:3] == (0, 2, rows[10])
    assert (judgement.metrics.rows_checked or 0) < (judgement.metrics.rows_total or 0) == 4 * 4096


@pytest.mark.parametrize("length", [64, 1024, 16384])
def test_the_mean_of_the_values_never_passes_however_long_the_sequence(length: int) -> None:
    case = make_case(heads_q=1, seqlen_q=length, dtype="bfloat16", head_dim=64)

    def change(outputs: dict[str, torch.Tensor]) -> None:
        from attnbench.cases.inputs.operands import operand

        outputs["out"][:] = torch.from_numpy(operand(case, "v")).double().mean(2)

    judgement = judged(case, change)
    assert judgement.problem is not None
    assert (judgement.metrics.out_error_ratio or 0) > 20


def test_a_nan_is_located_and_counted() -> None:
    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["out"][1, 47, 0] = torch.nan

    problem = judged(make_case(**CAUSAL), change).problem
    assert problem is not None
    assert problem.startswith("out is nan where")
    assert "batch 0, head 1, row 47, column 0, and in 1 of 6144 judged elements" in problem


def test_an_lse_of_minus_infinity_must_stand_where_no_key_is_seen() -> None:
    case = make_case(heads_q=1, seqlen_q=4, mask="key_padding", kv_lengths=[0])
    assert judged(case).problem is None

    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["lse"][:] = 0.0

    problem = judged(case, change).problem
    assert problem is not None
    assert "lse is 0 where -inf is right" in problem


def test_rows_that_see_nothing_must_be_zero() -> None:
    case = make_case(heads_q=1, seqlen_q=6, seqlen_kv=3, mask="causal", alignment="bottom_right")

    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["out"][0, 0] = 0.1

    assert judged(case).problem is None
    assert judged(case, change).problem is not None


def test_an_answer_that_is_zero_throughout_is_judged_all_the_same() -> None:
    case = make_case(heads_q=1, seqlen_q=4, mask="key_padding", kv_lengths=[0], mode="backward")

    def change(outputs: dict[str, torch.Tensor]) -> None:
        outputs["dk"][0, 1, 2] = 0.5

    assert judged(case).problem is None
    judgement = judged(case, change)
    assert judgement.problem is not None
    assert judgement.metrics.dk_error_max == 0.5
    assert judgement.metrics.dk_error_worst == (0, 0, 1, 2)


def test_an_output_in_another_dtype_is_wrong() -> None:
    problem = judged(make_case(dtype="bfloat16"), dtype="float32").problem
    assert problem == "out has dtype float32, not bfloat16"


def test_an_output_of_another_shape_is_wrong() -> None:
    case = make_case(seqlen_q=8)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    shape = {"out": Shape(shape=(1, 8, 7, 64), dtype="float32")}
    assert judge(case, selection, truth, shape, {}).problem == "out has shape (1, 8, 7, 64), not (1, 8, 8, 64)"


def test_a_missing_gradient_is_wrong() -> None:
    case = make_case(seqlen_q=8, mode="backward")
    selection = select(case)
    truth = find_truth(case, selection, 0)
    problem = judge(case, selection, truth, {}, {}).problem
    assert problem == "out was not returned; dq was not returned; dk was not returned; dv was not returned"


def test_fresh_inputs_have_another_answer() -> None:
    case = make_case(seqlen_q=16)
    one, other = (find_truth(case, select(case), repetition).answers["out"] for repetition in (0, 1))
    assert float((one - other).norm()) > 0.5 * float(one.norm())


def test_what_is_judged_of_a_long_sequence_is_bounded_and_holds_its_edges() -> None:
    case = make_case(heads_q=8, seqlen_q=131072, mask="causal")
    selection = select(case)
    assert selection.rows is not None
    assert {0, 1, 63, 64, 65, 127, 128, 129, 65535, 65536, 65537, 131071} <= set(selection.rows)
    assert selection.rows_checked(case) * case.seqlen_kv <= 2**27
    assert np.diff(selection.rows).max() < 20_000, "the rest is spread over the sequence"


def test_gradients_of_a_long_sequence_are_judged_for_whole_heads() -> None:
    case = make_case(heads_q=8, seqlen_q=2048, mode="backward")
    selection = select(case)
    assert selection.rows is None
    assert selection.gradients_of_keys
    assert 1 <= len(selection.groups) < 8
    assert {(0, 0), (0, 7)} <= set(selection.groups)
