"""Ragged batches: how they are written, and the cases that they define."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from attnbench import (
    Case,
    CaseError,
    attention,
    dense_mask,
    flops,
    make_case,
    minimum_bytes,
    request_groups,
    visible_pairs,
)
from attnbench.cases.inputs.operands import operand
from attnbench.cases.inputs.sign_flips import value_signs
from attnbench.cases.requests import Requests, mistake_in_requests, parse_requests, written
from attnbench.untrusted.printable import shown
from attnbench.worker.tensors import flip_signs, inputs_of, place, refresh


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        ("q2k", [(1, 2048, 2048)]),
        ("q1s1k", [(1, 1, 1024)]),
        ("8q1s1k", [(8, 1, 1024)]),
        ("q4s1k", [(1, 4, 1024)]),
        ("2q2k_32q1s1k", [(2, 2048, 2048), (32, 1, 1024)]),
        ("8q1/16k", [(8, 1, 16384)]),
        ("q1kv1k", [(1, 1, 1024)]),
        ("q1K_q1m", [(1, 1024, 1024), (1, 2**20, 2**20)]),
        ("q3_2q3_q3s4_q3", [(3, 3, 3), (1, 3, 4), (1, 3, 3)]),
    ],
)
def test_vllms_grammar(text: str, batch: list[tuple[int, int, int]]) -> None:
    assert parse_requests(text) == tuple(batch)
    assert parse_requests(written(parse_requests(text))) == tuple(batch)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2k", "has '2k' where requests are COUNTqQUERIESsKEYS"),
        ("q2k_", "has '' where"),
        ("q2k 8q1s1k", "has 'q2k 8q1s1k' where"),
        ("q1s", "has 'q1s' where"),
        ("-1q4", "has '-1q4' where"),
        ("q1.5k", "has 'q1.5k' where"),
        ("q8_q4s2", "has 4 queries and 2 keys in 'q4s2': queries are the last of a request's keys"),
        ("0q4", "asks for nothing in '0q4': counts and lengths are 1 at least"),
        ("q0s4", "asks for nothing in 'q0s4'"),
        ("9999999q1s4", "has more than 1,048,576 requests"),
        ("q1_" * 10_000, "is longer than 16,384 characters"),
        (8, "is not a text such as 2q2k_32q1s1k"),
    ],
)
def test_what_is_no_batch_is_told_in_a_sentence(text: object, sentence: str) -> None:
    assert (mistake_in_requests(text) or "").startswith(sentence)
    with pytest.raises(CaseError, match=re.escape(f"requests = {shown(text)} {sentence}")):
        make_case(requests=text)


def test_one_batch_is_one_case_however_it_is_written() -> None:
    case = make_case(requests="2q2048_q1kv1024_31q1/1k")
    assert case == make_case(requests="2q2k_32q1s1k")
    assert case == make_case(mask="ragged", seqlen_q=4128, seqlen_kv=36864, requests="q2k_q2k_32q1s1k")
    assert case == make_case(**case.to_dict())
    assert case.requests == "2q2k_32q1s1k"
    assert case.label() == "forward b1 h8 s4128x36864 d64 float32 ragged 2q2k_32q1s1k"
    assert case.case_id == "39f657298fb7"


def test_requests_in_another_order_or_of_other_lengths_are_another_case() -> None:
    ids = {make_case(requests=text).case_id for text in ("q2_q1s9", "q1s9_q2", "q2s3_q1s8", "q1s2_q2s9", "q3s11")}
    assert len(ids) == 5


def test_long_batches_are_labelled_by_class() -> None:
    text = "q108_q5s1646_q1s266_q1s479_q1s945_q1s1033_q1s1047_q1s1134"
    assert make_case(requests=text).mask_label() == "ragged 1 prefill 1 extend 6 decode"


@pytest.mark.parametrize(
    ("sizes", "name"), [((7, 7), "prefill"), ((1, 1), "prefill"), ((2, 7), "extend"), ((1, 7), "decode")]
)
def test_classes_of_requests(sizes: tuple[int, int], name: str) -> None:
    assert Requests(1, *sizes).request_class == name


def test_each_request_is_causal_up_to_its_last_key() -> None:
    seen = [
        "".join("x" if key else "." for key in row) for row in dense_mask(make_case(requests="q2_2q1s3_q2/4"))[0, 0]
    ]
    assert seen == ["x...........", "xx..........", "..xxx.......", ".....xxx....", "........xxx.", "........xxxx"]


@pytest.mark.parametrize("text", ["q5", "q1s9", "q2_2q1s3_q2s4", "3q4s7_q1_q9"])
def test_cost_is_that_of_the_requests_one_by_one(text: str) -> None:
    case = make_case(requests=text, heads_q=4, heads_kv=2, head_dim=8, head_dim_v=16, mode="forward_backward")
    alone = [one.case for one in request_groups(case, one_by_one=True)]
    loop = [
        one.keys - one.queries + i + 1
        for one in parse_requests(text)
        for i in range(one.queries)
        for _ in range(one.number)
    ]
    assert visible_pairs(case) == sum(loop)
    assert flops(case) == sum(map(flops, alone))
    assert minimum_bytes(case) == sum(map(minimum_bytes, alone))


@pytest.mark.parametrize("one_by_one", [False, True])
def test_groups_cover_the_pack_and_see_what_its_mask_says(one_by_one: bool) -> None:
    case = make_case(requests="q3_2q1s4_q2s5_q2s5")
    mask, seen = dense_mask(case)[0, 0], np.zeros((9, 21), bool)
    groups = request_groups(case, one_by_one=one_by_one)
    assert [one.case.batch for one in groups] == ([1] * 5 if one_by_one else [1, 2, 2])
    for one in groups:
        assert make_case(**one.case.to_dict()) == one.case
        rows, columns = range(9)[one.rows], range(21)[one.columns]
        for n in range(one.case.batch):
            queries, keys = one.case.seqlen_q, one.case.seqlen_kv
            place = np.ix_(rows[n * queries : (n + 1) * queries], columns[n * keys : (n + 1) * keys])
            seen[place] = dense_mask(one.case)[0, 0]
    assert np.array_equal(seen, mask)


def test_a_window_is_counted_in_each_request() -> None:
    case = make_case(requests="q3_2q1s4_q2s3", mask="sliding_window & ragged", window_left=1)
    seen = ["".join("x" if key else "." for key in row) for row in dense_mask(case)[0, 0]]
    assert seen == ["x.............", "xx............", ".xx...........", ".....xx.......", ".........xx...",
                    "...........xx.", "............xx"]  # fmt: skip
    assert visible_pairs(case) == 13
    assert case.alignment == "top_left"
    for one in request_groups(case, one_by_one=True):
        assert make_case(**one.case.to_dict()) == one.case
        assert np.array_equal(dense_mask(one.case)[0, 0], dense_mask(case)[0, 0, one.rows, one.columns])


def test_requests_have_pages_of_their_own() -> None:
    """Each request has a row of the table, with NaN after its last key; short rows end in an unused page."""
    case = make_case(requests="q3_2q1s4_q2s9", kv_cache="paged", page_size=4, heads_q=2, heads_kv=1, head_dim=5)

    def kernel(q: Any, k: Any, v: Any, case: Case) -> Any:
        return q

    said = attention("tests/pages", masks=["ragged"], framework="numpy", kv_caches=["paged"])(kernel).declaration
    placed = place(case, said, "cpu")
    assert placed.block_table is not None
    assert placed.block_table.shape == (4, 3)
    assert placed.k.shape == (7, 4, 1, 5)
    assert sorted(placed.block_table.reshape(-1)) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    values, first = operand(case, "k")[0, 0], 0  # (20, 5)
    for row, length in zip(placed.block_table, (3, 4, 4, 9), strict=True):
        keys = placed.k[row].reshape(-1, 5)
        assert np.array_equal(keys[:length], values[first : first + length])
        assert np.isnan(keys[length:]).all()
        first += length
    assert np.array_equal(inputs_of(case, said.layout, placed)["k"][0, 0], values)
    turned = flip_signs(case, said, refresh(case, said, placed, 3), 1)
    expected = operand(case, "v", 3) * value_signs(case, 1)[..., None, None]
    assert np.array_equal(inputs_of(case, said.layout, turned)["v"], expected)


def test_other_cases_have_no_groups() -> None:
    assert request_groups(make_case(mask="document")) == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"requests": "q3", "seqlen_q": 4}, "'q3' have 3 queries and 3 keys, not seqlen_q = 4 and seqlen_kv = 3"),
        ({"requests": "q3", "batch": 2}, "mask = 'ragged' is a batch by itself: batch = 2 must be 1"),
        ({"requests": "q3", "mask": "ragged & causal"}, "only 'sliding_window' is defined in each request"),
        ({"requests": "q3", "mask": "ragged & sliding_window", "window_right": 2}, "window_right = 2 shows nothing"),
        ({"requests": "q3", "score_mod": "alibi"}, "score_mod = 'alibi' follows positions in one sequence"),
        ({"requests": "q3", "score_mod": "bias"}, "score_mod = 'bias' follows positions in one sequence"),
        ({"requests": "q3", "score_mod": "softcap & alibi"}, "score_mod = 'softcap & alibi' follows positions"),
        ({"requests": "q3", "kv_cache": "latent"}, "kv_cache = 'latent' holds one sequence"),
        ({"requests": "q3x"}, "requests = 'q3x' has 'q3x' where"),
        ({"mask": "ragged", "seqlen_q": 9, "seqlen_kv": 4}, "have 9 queries and 9 keys"),
        ({"mask": "ragged", "seqlen_q": 0}, "have 1 queries and 1 keys, not seqlen_q = 0 and seqlen_kv = 0"),
        ({"mask": "ragged", "seqlen_q": 0, "seqlen_kv": 4}, "not seqlen_q = 0 and seqlen_kv = 4"),
    ],
)
def test_contradictions(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CaseError, match=re.escape(sentence)):
        make_case(**fields)


def test_a_pack_of_more_tokens_than_memory_has_is_counted_at_once() -> None:
    assert flops(make_case(requests="1000000q1s1m", heads_q=1, head_dim=1)) == 4 * 1_000_000 * 2**20
