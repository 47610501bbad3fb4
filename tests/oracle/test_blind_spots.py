"""A verdict reports a gross mistake that it would have missed, and nothing if there is none."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench import make_case
from attnbench.oracle.judge import find_truth
from attnbench.oracle.power.blind_spots import blind_spot, hidden_mistakes
from attnbench.oracle.selection import select

FIELDS: dict[str, Any] = {"heads_q": 2, "seqlen_q": 64, "seqlen_kv": 131}
ROOM = {**FIELDS, "dtype": "bfloat16", "inputs": "large_logits"}
"""Scores of several hundred; stored in bfloat16, they have errors of 1 or more."""


def blind(fields: dict[str, Any], *judged: str, stores_scores: bool = False) -> str | None:
    case = make_case(**fields)
    truth = find_truth(case, select(case), 0, stores_scores=stores_scores)
    hidden = hidden_mistakes(case, select(case), truth)
    return blind_spot(case, select(case), truth, judged or sorted(truth.answers), hidden)


def test_a_budget_with_room_for_stored_scores_may_not_see_that_they_are_not_scaled() -> None:
    assert blind(ROOM, "out", stores_scores=True) == "scores that are not scaled"


def test_whoever_keeps_scores_in_float32_is_judged_on_the_same_inputs() -> None:
    assert blind(ROOM, "out") is None


def test_an_lse_shows_what_the_output_does_not() -> None:
    assert blind(ROOM, "out", "lse", stores_scores=True) is None


def test_a_gradient_that_could_as_well_be_zero_is_told() -> None:
    fields = {**ROOM, "mode": "backward"}
    assert blind(fields, stores_scores=True) == "zeros in place of dk"


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("inputs", ["normal", "needle", "constant", "ties", "tiny", "large_logits"])
def test_what_is_right_is_no_mistake(inputs: str, dtype: str) -> None:
    """With constant keys the answer is the mean of the values, and the gradient of the queries is zero."""
    assert blind({**FIELDS, "dtype": dtype, "inputs": inputs, "mode": "backward"}) is None


@pytest.mark.parametrize("fields", [{"seqlen_q": 1}, {"seqlen_q": 9, "mask": "causal"}, {"seqlen_q": 9, "scale": 1.0}])
def test_a_single_key_hides_nothing(fields: dict[str, Any]) -> None:
    assert blind(fields) is None


def test_zero_is_right_where_the_answer_is_too_small_for_its_dtype() -> None:
    fields = {"heads_q": 1, "seqlen_q": 1, "seqlen_kv": 4, "dtype": "float16", "score_mod": "sink"}
    assert blind({**fields, "inputs": "negative_logits"}, "out") is None
