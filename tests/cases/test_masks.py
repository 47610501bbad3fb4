from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.cases.case import Case, make_case
from attnbench.cases.masks import batch_varies, dense_mask, row_bounds, visible_pairs


def sees(case: Case, batch_index: int, query: int, key: int) -> bool:
    """The masks' definitions, pair by pair."""
    place = query + (case.seqlen_kv - case.seqlen_q if case.alignment == "bottom_right" else 0)
    if case.mask == "causal":
        return key <= place
    if case.mask == "sliding_window":
        assert case.window_left is not None
        assert case.window_right is not None
        return -case.window_left <= key - place <= case.window_right
    if case.mask == "prefix_lm":
        assert case.prefix_len is not None
        return key < case.prefix_len or key <= place
    if case.mask == "document":
        assert case.document_lengths is not None
        document = [number for number, length in enumerate(case.document_lengths) for _ in range(length)]
        return document[query] == document[key] and (key <= query or not case.document_causal)
    if case.mask == "key_padding":
        assert case.kv_lengths is not None
        return key < case.kv_lengths[batch_index]
    return True


def all_pairs(case: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Shape (batch, seqlen_q, seqlen_kv)."""
    shape = (case.batch, case.seqlen_q, case.seqlen_kv)
    return np.array([sees(case, *index) for index in np.ndindex(shape)]).reshape(shape)


@given(data=st.data())
def test_a_mask_lets_through_what_its_definition_says(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    mask = dense_mask(case)
    assert mask.shape == (case.batch if batch_varies(case) else 1, 1, case.seqlen_q, case.seqlen_kv)
    shape = (case.batch, case.seqlen_q, case.seqlen_kv)
    assert np.array_equal(np.broadcast_to(mask[:, 0], shape), all_pairs(case))


@given(data=st.data())
def test_visible_pairs_are_those_that_one_can_count(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    assert visible_pairs(case) == int(all_pairs(case).sum())


@given(data=st.data())
def test_bounds_stay_within_the_keys_and_are_equal_on_rows_that_see_nothing(
    data: st.DataObject, any_case: st.SearchStrategy[Case]
) -> None:
    case = data.draw(any_case)
    for batch_index, plane in enumerate(all_pairs(case)):
        low, high = row_bounds(case, batch_index)
        assert (low >= 0).all()
        assert (high <= case.seqlen_kv).all()
        assert np.array_equal(high - low, plane.sum(-1))


def triangle(n: int) -> int:
    return n * (n + 1) // 2


@pytest.mark.parametrize(("n_q", "n_kv"), [(100, 100), (37, 131), (131, 37), (1, 257), (4096, 65536)])
def test_causal_pairs_have_a_closed_form(n_q: int, n_kv: int) -> None:
    top_left = make_case(mask="causal", seqlen_q=n_q, seqlen_kv=n_kv)
    bottom_right = make_case(mask="causal", seqlen_q=n_q, seqlen_kv=n_kv, alignment="bottom_right")
    assert visible_pairs(top_left) == (triangle(n_q) if n_q <= n_kv else triangle(n_kv) + (n_q - n_kv) * n_kv)
    assert visible_pairs(bottom_right) == (n_q * (2 * n_kv - n_q + 1) // 2 if n_q <= n_kv else triangle(n_kv))


def test_windows_and_prefixes_have_closed_forms() -> None:
    n, width, prefix = 1000, 100, 300
    window = make_case(mask="sliding_window", seqlen_q=n, window_left=width - 1, batch=3)
    assert visible_pairs(window) == 3 * (triangle(width) + (n - width) * width)
    assert visible_pairs(make_case(mask="prefix_lm", seqlen_q=n, prefix_len=prefix)) == triangle(n) + triangle(
        prefix - 1
    )


def test_leading_queries_see_nothing_when_they_outnumber_the_keys() -> None:
    low, high = row_bounds(make_case(mask="causal", seqlen_q=5, seqlen_kv=2, alignment="bottom_right"), 0)
    assert (high - low).tolist() == [0, 0, 0, 1, 2]
