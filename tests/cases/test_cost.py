from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.choices import DTYPE_BYTES
from attnbench.cases.cost import flops, minimum_bytes, tensor_elements
from attnbench.cases.inputs.operands import operand_shapes, output_shape
from attnbench.cases.masks import dense_mask, row_runs
from attnbench.cases.masks.table import kinds_of


def counted_flops(case: Case) -> int:
    """Count two operations per multiply-add of each matrix product, over all pairs and projections."""
    forward = backward = 0
    planes = dense_mask(case)[:, 0]
    for batch_index in range(case.batch):
        pairs = int(planes[batch_index % len(planes)].sum())
        for _ in range(case.heads_q):
            scores = weighted = pairs
            forward += 2 * scores * case.head_dim + 2 * weighted * case.head_dim_v
            backward += 2 * pairs * case.head_dim  # recomputing the scores
            backward += 2 * pairs * case.head_dim_v  # dP = dO V'
            backward += 2 * pairs * case.head_dim_v  # dV = P' dO
            backward += 2 * pairs * case.head_dim  # dQ = dS K
            backward += 2 * pairs * case.head_dim  # dK = dS' Q
    if case.operator == "multi_head_attention":
        shapes = operand_shapes(case)
        rows = {"w_q": case.seqlen_q, "w_k": case.seqlen_kv, "w_v": case.seqlen_kv, "w_o": case.seqlen_q}
        projections = sum(2 * case.batch * rows[name] * math.prod(shapes[name]) for name in rows)
        forward += projections
        backward += projections
    return {"forward": forward, "backward": backward, "forward_backward": forward + backward}[case.mode]


@given(data=st.data())
def test_flops_are_those_that_one_can_count(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    assert flops(case) == counted_flops(case)


def counted_bytes(case: Case) -> int:
    """Count each tensor that must be read or written once."""
    shapes, size = operand_shapes(case), DTYPE_BYTES[case.dtype]
    stored = ("q", "k") if case.kv_cache == "latent" else ("q", "k", "v")
    inputs = [math.prod(shapes[name]) * size for name in stored]
    weights = [math.prod(shape) * size for name, shape in shapes.items() if name.startswith("w_")]
    output = math.prod(output_shape(case)) * size
    lse = case.batch * case.heads_q * case.seqlen_q * 4
    gradients = inputs
    return {
        "forward": sum(inputs) + sum(weights) + output,
        "backward": sum(inputs) + sum(weights) + output + output + lse + sum(gradients),
        "forward_backward": sum(inputs) + sum(weights) + output + output + sum(gradients),
    }[case.mode]


@given(data=st.data())
def test_bytes_are_each_tensor_once(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    assert minimum_bytes(case) == counted_bytes(case)


@given(data=st.data())
def test_elements_are_those_of_the_tensors(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    shapes, count = operand_shapes(case), tensor_elements(case)
    if case.kv_cache == "latent":
        assert count["v"] == 0
        shapes["v"] = (0,)
    assert {name: count[name] for name in ("q", "k", "v")} == {n: math.prod(shapes[n]) for n in ("q", "k", "v")}
    assert count["out"] == math.prod(output_shape(case))
    assert count.get("weights", 0) == sum(math.prod(s) for name, s in shapes.items() if name.startswith("w_"))


def test_the_output_of_float8_is_twice_as_wide() -> None:
    case = make_case(dtype="float8_e4m3fn", heads_q=1, seqlen_q=10, head_dim=16)
    assert minimum_bytes(case) == 3 * 160 * 1 + 160 * 2


@pytest.mark.parametrize(("mode", "products"), [("forward", 4), ("backward", 10), ("forward_backward", 14)])
def test_full_attention_costs_what_the_literature_says(mode: str, products: int) -> None:
    # Dao, "FlashAttention-2" (2023), section 4.1: 4 N^2 d h forward, 2.5 times as much backward.
    case = make_case(mode=mode, heads_q=3, seqlen_q=50, head_dim=16)
    assert flops(case) == products * 50**2 * 16 * 3


def test_grouped_heads_cost_the_same_flops_and_fewer_bytes() -> None:
    mha, mqa = make_case(heads_q=8), make_case(heads_q=8, heads_kv=1)
    assert flops(mqa) == flops(mha)
    assert minimum_bytes(mqa) == minimum_bytes(mha) * (1 + 1 / 8) / 2


@pytest.mark.parametrize("mask", ["none", "causal", "causal & sliding_window", "prefix_lm", "document"])
def test_costs_of_cases_that_fit_nowhere_are_counted_without_arrays(mask: str) -> None:
    case = make_case(mask=mask, seqlen_q=2**40, heads_q=2**40, batch=2**20)
    assert 2**100 < flops(case) < 2**190
    assert math.isfinite(float(flops(case) * minimum_bytes(case)))


def test_a_mask_that_is_counted_row_by_row_has_a_largest_number_of_rows() -> None:
    assert make_case(mask="causal & document", seqlen_q=2**24)
    with pytest.raises(CaseError, match="row by row, and 33,554,432 rows of a batch of 1 are more than 16,777,216"):
        make_case(mask="causal & document", seqlen_q=2**25)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mask": "causal & block_sparse", "mask_block_size": 4096, "seqlen_q": 2**24}, "runs of keys in its rows"),
        ({"mask": "key_padding & block_sparse", "mask_block_size": 1024, "seqlen_q": 2**20}, "runs of keys"),
        ({"mask": "tensor", "seqlen_q": 2**15}, "runs of keys"),
        ({"mask": "tensor", "batch": 2**20, "seqlen_q": 1}, "1 rows of a batch of 1,048,576"),
        ({"mask": "left_padding & tree", "batch": 2**20, "seqlen_q": 16}, "16 rows of a batch of 1,048,576"),
        ({"mask": "tree", "seqlen_q": 2**24}, "runs of keys"),
        ({"mask": "tree", "seqlen_q": 5000, "tree_parents": [-1] * 5000}, "5,000 drafts, more than 4,096"),
    ],
)
def test_masks_whose_pairs_would_take_minutes_to_count_are_refused_at_once(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CaseError, match=sentence):
        make_case(**fields)


@pytest.mark.parametrize("parents", [[-1], [-1, 0, 0, 1, 1, 2], [-1, -1, -1], [-1, 0, -1, 2, 0, 4, 3]])
@pytest.mark.parametrize("mask", ["tree", "block_sparse"])
def test_no_query_sees_more_runs_than_its_mask_says(mask: str, parents: list[int]) -> None:
    of_tree = {"tree_parents": parents} if mask == "tree" else {}
    of_blocks = [{"mask_block_size": 2, "mask_blocks": text} for text in ("random:40%:3", "random:5%:0", "local:1:1")]
    for fields in of_blocks if mask == "block_sparse" else [of_tree]:
        case = make_case(mask=mask, seqlen_q=39, **fields)
        assert row_runs(case, 0).shape[1] <= kinds_of(mask)[0].runs_to_count(case)
