from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.choices import CHOICES, INPUT_FAMILIES
from attnbench.cases.masks.kinds.block_sparse import mistake_in_blocks


@given(data=st.data())
def test_making_a_case_of_a_cases_fields_gives_the_same_case(
    data: st.DataObject, any_case: st.SearchStrategy[Case]
) -> None:
    case = data.draw(any_case)
    assert make_case(**case.to_dict()) == case


@given(data=st.data())
def test_a_case_survives_json(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    back = make_case(**json.loads(json.dumps(case.to_dict())))
    assert back == case
    assert back.case_id == case.case_id
    assert hash(back) == hash(case)


@given(data=st.data())
def test_cases_are_equal_exactly_when_their_ids_are(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    one, other = data.draw(any_case), data.draw(any_case)
    assert (one == other) == (one.case_id == other.case_id)


FULL = f"mask = 'full' is none of {', '.join(CHOICES['mask'])}"


def test_ids_never_change() -> None:
    # Committed runs and baselines are found by these ids. A change here orphans them all.
    assert make_case().case_id == "2968d72f2952"
    full = make_case(
        operator="attention", mode="backward", batch=2, heads_q=6, heads_kv=2, seqlen_q=10, seqlen_kv=10, head_dim=8,
        head_dim_v=4, dtype="bfloat16", mask="document", document_lengths=[3, 7], document_causal=True,
        score_mod="softcap", softcap=30, scale=0.5, strides="transposed", inputs="outlier", seed=7,
    )  # fmt: skip
    assert full.case_id == "05de2591fe1f"


@pytest.mark.parametrize("written", ["causal & key_padding", "key_padding&causal", "none & key_padding & causal"])
def test_an_intersection_is_one_case_however_it_is_written(written: str) -> None:
    case = make_case(mask=written, batch=2)
    assert case.mask == "causal & key_padding"
    assert case.mask_kinds == ("causal", "key_padding")
    assert case.case_id == "1b2e84bca560"
    assert case.kv_lengths == (1024, 512)
    assert case.label() == "forward b2 h8 s1024 d64 float32 causal & key_padding"


@pytest.mark.parametrize(
    "irrelevant",
    [
        {"window_left": 7},
        {"window_right": 7},
        {"prefix_len": 3},
        {"document_lengths": [3]},
        {"document_causal": True},
        {"kv_lengths": [3]},
        {"tree_parents": [-1]},
        {"mask_block_size": 8},
        {"mask_blocks": "local:1:1"},
        {"softcap": 3.0},
        {"page_size": 8},
        {"alignment": "bottom_right"},
        {"heads_kv": 8},
        {"seqlen_kv": 1024},
        {"head_dim_v": 64},
        {"scale": 0.125},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_problem_does_not_use_or_has_by_default_makes_no_difference(irrelevant: dict[str, Any]) -> None:
    assert make_case(**irrelevant) == make_case()


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({"mask": "sliding_window"}, {"window_left": 7}),
        ({"mask": "sliding_window"}, {"window_right": 7}),
        ({"mask": "prefix_lm"}, {"prefix_len": 3}),
        ({"mask": "prefix_lm"}, {"prefix_len": 0}),
        ({"mask": "document"}, {"document_lengths": [24, 1000]}),
        ({"mask": "document"}, {"document_causal": True}),
        ({"mask": "key_padding"}, {"kv_lengths": [3]}),
        ({"mask": "tree", "seqlen_q": 7, "alignment": "bottom_right"}, {"tree_parents": [-1, -1]}),
        ({"mask": "block_sparse"}, {"mask_block_size": 32}),
        ({"mask": "block_sparse"}, {"mask_blocks": "random:10%:1"}),
        ({"score_mod": "softcap"}, {"softcap": 3.0}),
        ({"kv_cache": "paged"}, {"page_size": 8}),
        ({"mask": "causal", "seqlen_q": 7}, {"alignment": "bottom_right"}),
        ({"score_mod": "alibi", "seqlen_q": 7}, {"alignment": "bottom_right"}),
        ({"score_mod": "relative_bias", "seqlen_q": 7}, {"alignment": "bottom_right"}),
        ({}, {"seed": 1}),
        ({}, {"inputs": "constant"}),
        ({}, {"strides": "transposed"}),
    ],
)
def test_what_a_problem_uses_makes_a_difference(base: dict[str, Any], change: dict[str, Any]) -> None:
    defaults = {"seqlen_kv": 1024}
    assert make_case(**defaults, **base, **change) != make_case(**defaults, **base)


def test_defaults_follow_from_the_other_fields() -> None:
    case = make_case(heads_q=6, seqlen_q=40, head_dim=16, batch=3, mask="key_padding")
    assert (case.heads_kv, case.seqlen_kv, case.head_dim_v) == (6, 40, 16)
    assert case.scale == 1 / math.sqrt(16)
    assert case.kv_lengths == (40, 30, 20)
    assert make_case(seqlen_q=40, mask="prefix_lm").prefix_len == 10
    assert make_case(seqlen_q=6, mask="tree").tree_parents == (-1, 0, 0, 1, 1, 2)
    assert make_case(seqlen_q=40, mask="document").document_lengths == (4, 8, 12, 16)


def test_defaults_of_what_only_some_problems_have() -> None:
    window = make_case(mask="sliding_window")
    assert (window.window_left, window.window_right) == (256, 0)
    assert make_case(mask="document").document_causal is False
    assert make_case(score_mod="softcap").softcap == 50
    assert make_case(kv_cache="paged").page_size == 16


@pytest.mark.parametrize("seqlen", range(1, 12))
def test_default_documents_fit_to_any_length(seqlen: int) -> None:
    lengths = make_case(seqlen_q=seqlen, mask="document").document_lengths
    assert lengths is not None
    assert sum(lengths) == seqlen
    assert min(lengths) >= 1


@pytest.mark.parametrize(
    ("fields", "sentences"),
    [
        ({"heads": 8}, ["unknown field 'heads'"]),
        (
            {"mask": "full"},
            [FULL],
        ),
        (
            {"mask": "causal & full"},
            [FULL],
        ),
        (
            {"mask": ["causal"]},
            [f"mask = ['causal'] is none of {', '.join(CHOICES['mask'])}"],
        ),
        (
            {"inputs": "x"},
            [f"inputs = 'x' is none of {', '.join(INPUT_FAMILIES)}, nor file:PATH"],
        ),
        ({"batch": -1}, ["batch = -1 is not an integer >= 0"]),
        ({"batch": True}, ["batch = True is not an integer >= 0"]),
        ({"seqlen_q": 1.0}, ["seqlen_q = 1.0 is not an integer >= 0"]),
        ({"seed": -1}, ["seed = -1 is not an integer >= 0"]),
        ({"scale": 0}, ["scale = 0 is not a finite number > 0"]),
        ({"scale": math.inf}, ["scale = inf is not a finite number > 0"]),
        ({"kv_lengths": 3}, ["kv_lengths = 3 is not a list of integers"]),
        ({"document_causal": 1}, ["document_causal = 1 is not true or false"]),
        ({"heads_kv": 3}, ["heads_q = 8 is not a multiple of heads_kv = 3"]),
        (
            {"mask": "document", "seqlen_kv": 7},
            ["mask = 'document' packs one sequence: seqlen_q = 1024 must equal seqlen_kv = 7"],
        ),
        (
            {"mask": "document", "seqlen_q": 8, "document_lengths": [3, 4]},
            ["document_lengths = [3, 4] must be >= 0 and sum to seqlen_q = 8"],
        ),
        (
            {"mask": "key_padding", "seqlen_q": 8, "kv_lengths": [3, 9]},
            ["kv_lengths = [3, 9] must be 1 (batch) lengths of 0 to 8 (seqlen_kv)"],
        ),
        (
            {"mask": "key_padding", "seqlen_q": 8, "kv_lengths": [9]},
            ["kv_lengths = [9] must be 1 (batch) lengths of 0 to 8 (seqlen_kv)"],
        ),
        (
            {"mask": "tree", "seqlen_q": 3, "tree_parents": [-1, 0, 1, 2]},
            ["tree_parents has 4 drafts, more than seqlen_q = 3 or seqlen_kv = 3"],
        ),
        (
            {"mask": "tree", "seqlen_q": 3, "tree_parents": [-1, 1]},
            ["tree_parents: 1 is the parent of draft 1; it must be an earlier draft, or -1"],
        ),
        (
            {"mask": "tree", "seqlen_q": 3, "seqlen_kv": 5},
            ["mask = 'tree' ends with the keys: unequal lengths need alignment = 'bottom_right'"],
        ),
        (
            {"mask": "block_sparse", "seqlen_q": 8, "mask_block_size": 4, "mask_blocks": "list:0"},
            ["mask_blocks has 1 lists; there are 2 blocks of 4 queries"],
        ),
        (
            {"mask": "block_sparse", "seqlen_q": 8, "mask_block_size": 4, "mask_blocks": "list:0/1+2"},
            ["mask_blocks: there is no block 2 of keys, only 2 of 4"],
        ),
        (
            {"mask": "block_sparse", "seqlen_q": 2**20, "mask_block_size": 1},
            ["mask_block_size = 1 makes 1,048,576 x 1,048,576 blocks, more than 16,777,216 pairs"],
        ),
        (
            {"mask": "block_sparse", "mask_blocks": "random:0%:0"},
            ["mask_blocks = 'random:0%:0' has a density that is not above 0% and up to 100%"],
        ),
        (
            {"mask": "block_sparse", "mask_blocks": "0,1"},
            [f"mask_blocks = '0,1' {mistake_in_blocks('0,1')}"],
        ),
        (
            {"mask": "block_sparse", "mask_blocks": "local:\u0663:0"},
            [f"mask_blocks = 'local:\u0663:0' {mistake_in_blocks('0,1')}"],
        ),
        ({"mask": "prefix_lm", "seqlen_q": 8, "prefix_len": 9}, ["prefix_len = 9 is beyond seqlen_kv = 8"]),
        (
            {"dtype": "float8_e4m3fn", "mode": "backward"},
            ["dtype = 'float8_e4m3fn' has no gradients: mode must be 'forward'"],
        ),
        (
            {"kv_cache": "paged", "mode": "backward"},
            ["kv_cache = 'paged' is for inference: mode must be 'forward' and operator 'attention'"],
        ),
        (
            {"strides": "sliced", "operator": "multi_head_attention"},
            ["strides = 'sliced' needs operator = 'attention' and kv_cache = 'dense'"],
        ),
        (
            {"kv_cache": "latent", "head_dim_v": 80, "inputs": "file:a.npz"},
            [
                "kv_cache = 'latent' takes values out of keys: head_dim_v = 80 must not be above head_dim = 64",
                "kv_cache = 'latent' stores one tensor: inputs must not be a file of keys and values",
            ],
        ),
        (
            {"kv_cache": "latent", "mode": "backward"},
            ["kv_cache = 'latent' is for inference: mode must be 'forward' and operator 'attention'"],
        ),
        (
            {"strides": "qkv_slice", "seqlen_kv": 7},
            [
                "strides = 'qkv_slice' cuts Q, K and V out of one buffer: it needs equal lengths and equal head dims",
            ],
        ),
        (
            {"batch": -2, "heads_q": -1},
            ["batch = -2 is not an integer >= 0", "heads_q = -1 is not a positive integer"],
        ),
    ],
)
def test_fields_that_make_no_case_are_refused_with_a_sentence_for_each_mistake(
    fields: dict[str, Any], sentences: list[str]
) -> None:
    with pytest.raises(CaseError) as caught:
        make_case(**fields)
    assert caught.value.problems == sentences


def test_the_label_says_what_differs_from_the_ordinary() -> None:
    assert make_case().label() == "forward b1 h8 s1024 d64 float32"
    case = make_case(
        operator="multi_head_attention", heads_kv=2, seqlen_q=128, seqlen_kv=256, head_dim_v=32, inputs="file:a.npz",
        mask="sliding_window", alignment="bottom_right", score_mod="sink",
    )  # fmt: skip
    assert case.label() == (
        "multi_head_attention forward b1 h8:2 s128x256 d64:32 float32 sliding_window 256+0 bottom_right sink file:a.npz"
    )
