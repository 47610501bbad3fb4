"""Each input family has the property after which it is named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from attnbench import Case, make_case
from attnbench.cases.choices import INPUT_FAMILIES
from attnbench.cases.inputs.operands import operand_head
from attnbench.cases.masks import row_bounds

CAUSAL = {"heads_q": 4, "heads_kv": 2, "seqlen_q": 150, "mask": "causal", "head_dim": 64}


def scores(case: Case, head: int = 0) -> NDArray[np.float64]:
    """Return the scaled scores of one query head, shape (seqlen_q, seqlen_kv)."""
    q = operand_head(case, "q", 0, head).astype(np.float64)
    k = operand_head(case, "k", 0, head // (case.heads_q // case.heads_kv)).astype(np.float64)
    return q @ k.T * case.scale


def weights(case: Case, head: int = 0) -> NDArray[np.float64]:
    """Return the softmax over all keys, including hidden ones."""
    s = scores(case, head)
    p: NDArray[np.float64] = np.exp(s - s.max(-1, keepdims=True))
    total: NDArray[np.float64] = p.sum(-1, keepdims=True)
    return p / total


@pytest.mark.parametrize("inputs", ["needle", "retrieval"])
@pytest.mark.parametrize("seqlen_kv", [150, 5000])
def test_one_key_outweighs_all_others_together(inputs: str, seqlen_kv: int) -> None:
    case = make_case(**CAUSAL, seqlen_kv=seqlen_kv, alignment="bottom_right", inputs=inputs)
    assert np.median(weights(case).max(-1)) > 0.5


def test_needles_stand_on_either_side_of_the_masks_edge() -> None:
    case = make_case(**CAUSAL, inputs="needle")
    _, high = row_bounds(case, 0)
    distances = {int(d) for head in range(4) for d in weights(case, head).argmax(-1) - high}
    assert {-1, 0} <= distances, "the last visible key, and the first hidden one"


def test_needles_stand_on_either_side_of_a_windows_edges() -> None:
    case = make_case(**{**CAUSAL, "mask": "sliding_window"}, window_left=20, window_right=3, inputs="needle")
    low, high = row_bounds(case, 0)
    found = np.stack([weights(case, head).argmax(-1) for head in range(4)])
    for edge in (low - 1, low, high - 1, high):
        assert (found == edge).any()


def test_needles_stand_at_tile_edges() -> None:
    case = make_case(**{**CAUSAL, "mask": "none"}, inputs="needle")
    found = {int(key) for head in range(4) for key in weights(case, head).argmax(-1)}
    assert {63, 64, 127, 128} <= found


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_every_key_is_retrieved_by_some_query(mask: str) -> None:
    case = make_case(**{**CAUSAL, "mask": mask}, inputs="retrieval")
    assert set(weights(case, head=0).argmax(-1)) == set(range(150))


def test_what_is_retrieved_is_visible() -> None:
    case = make_case(**CAUSAL, inputs="retrieval")
    _, high = row_bounds(case, 0)
    for head in range(4):
        assert (weights(case, head).argmax(-1) < high).all()


def test_negative_logits_have_every_lse_below_what_exp_of_its_negative_can_hold() -> None:
    s = scores(make_case(**CAUSAL, inputs="negative_logits"))
    assert np.log(np.exp(s).sum(-1)).max() < -88.8


def test_ties_attain_the_maximum_of_a_row_several_times() -> None:
    s = scores(make_case(**CAUSAL, inputs="ties"))
    assert ((s > s.max(-1, keepdims=True) - 1e-9).sum(-1) > 10).all()


@pytest.mark.parametrize("inputs", ["tiny", "huge"])
def test_magnitudes_differ_while_scores_are_ordinary(inputs: str) -> None:
    case = make_case(**CAUSAL, inputs=inputs)
    assert 0.8 < scores(case).std() < 1.2
    size = operand_head(case, "v", 0, 0).std()
    assert size < 0.02 if inputs == "tiny" else size > 50


@pytest.mark.parametrize("inputs", INPUT_FAMILIES)
def test_every_family_fits_into_float8_and_float16(inputs: str) -> None:
    case = make_case(**{**CAUSAL, "head_dim": 256}, mode="backward", inputs=inputs)
    largest = max(float(np.abs(operand_head(case, name, 0, 0)).max()) for name in ("q", "k", "v", "dout"))
    assert largest <= 448


@pytest.mark.parametrize("inputs", INPUT_FAMILIES)
def test_values_of_no_two_keys_are_alike_so_that_a_swap_shows(inputs: str) -> None:
    case = make_case(**CAUSAL, inputs=inputs)
    rows = np.concatenate([operand_head(case, "v", 0, head) for head in range(2)])
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("inputs", ["needle", "retrieval"])
def test_a_family_works_where_rows_see_nothing_and_where_there_is_one_query(inputs: str) -> None:
    for fields in (
        {"mask": "key_padding", "kv_lengths": [0]},
        {"seqlen_q": 1, "seqlen_kv": 70},
        {"seqlen_q": 1, "seqlen_kv": 1},
    ):
        case = make_case(**{"seqlen_q": 7, "head_dim": 8, **fields}, inputs=inputs)
        assert np.isfinite(operand_head(case, "q", 0, 0)).all()
