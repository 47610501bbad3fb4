from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.cases.case import Case, make_case
from attnbench.cases.inputs.operands import file_problems
from attnbench.cases.masks import batch_varies, block_table, dense_mask, row_bounds, row_runs, visible_pairs
from attnbench.cases.masks.table import MASKS, PARAMETERS
from attnbench.sweep.files.settled import with_files
from tests.implementations.definition import sees


def all_pairs(case: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the dense mask, shape (batch, seqlen_q, seqlen_kv)."""
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
def test_runs_are_in_order_apart_and_within_the_keys(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case)
    for batch_index, plane in enumerate(all_pairs(case)):
        for runs, row in zip(row_runs(case, batch_index).tolist(), plane, strict=True):
            starts, ends = np.flatnonzero(np.diff(row, prepend=0) == 1), np.flatnonzero(np.diff(row, append=0) == -1)
            seen = [[int(start), int(end) + 1] for start, end in zip(starts, ends, strict=True)]
            assert runs[: len(seen)] == seen
            assert all(low == high for low, high in runs[len(seen) :])


@given(data=st.data())
def test_bounds_are_the_only_run_where_no_row_has_two(data: st.DataObject, any_case: st.SearchStrategy[Case]) -> None:
    case = data.draw(any_case.filter(lambda case: case.batch > 0))
    runs = row_runs(case, 0)
    if runs.shape[1] == 1:
        assert np.array_equal(np.stack(row_bounds(case, 0), axis=-1), runs[:, 0])
        return
    with pytest.raises(ValueError, match="several runs of keys"):
        row_bounds(case, 0)


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


def test_a_key_is_seen_where_all_kinds_show_it() -> None:
    case = make_case(
        mask="sliding_window & document & key_padding", seqlen_q=12, batch=2, window_left=2, window_right=1,
        document_lengths=[7, 5], kv_lengths=[12, 9],
    )  # fmt: skip
    assert row_runs(case, 1)[:, 0].tolist()[5:10] == [[3, 7], [4, 7], [7, 9], [7, 9], [7, 9]]
    assert visible_pairs(case) == int(all_pairs(case).sum())


def test_a_draft_sees_the_context_its_ancestors_and_itself() -> None:
    case = make_case(mask="tree", seqlen_q=6, seqlen_kv=8, alignment="bottom_right", tree_parents=[-1, 0, 0, 2])
    seen = ["".join("x" if key else "." for key in row) for row in dense_mask(case)[0, 0]]
    assert seen == ["xxx.....", "xxxx....", "xxxxx...", "xxxxxx..", "xxxxx.x.", "xxxxx.xx"]
    assert row_runs(case, 0)[-1].tolist() == [[0, 5], [6, 8]]


def blocks(**fields: Any) -> list[str]:
    case = make_case(**{"mask": "block_sparse", "seqlen_q": 40, "mask_block_size": 8, **fields})
    return ["".join("x" if one else "." for one in row) for row in block_table(case)]


def test_a_pattern_of_blocks_has_neighbours_and_the_first_ones() -> None:
    assert blocks(mask_blocks="local:1:1") == ["xx...", "xxx..", "xxxx.", "x.xxx", "x..xx"]
    # Queries 32 to 39 are at the keys 60 to 67, in the blocks 7 and 8.
    shifted = blocks(mask_blocks="local:0:0", seqlen_kv=68, alignment="bottom_right")
    assert shifted[-1] == ".......xx"


def test_random_blocks_are_as_many_as_the_density_says_with_those_on_the_diagonal() -> None:
    for density, count in ((1, 1), (10, 5), (25, 12), (100, 50)):
        table = np.array([list(row) for row in blocks(seqlen_q=400, mask_blocks=f"random:{density}%:3")]) == "x"
        assert table.sum(1).tolist() == [count] * 50
        assert table.diagonal().all()
    assert blocks(mask_blocks="random:50%:1") != blocks(mask_blocks="random:50%:2")


def test_blocks_come_out_of_a_file(tmp_path: Path) -> None:
    """The matrix is used as it is, and identifies the case; a wrong shape or dtype is reported in a sentence."""
    table = np.random.default_rng(0).random((5, 3)) < 0.5
    fields: dict[str, Any] = {"mask": "block_sparse", "seqlen_q": 40, "seqlen_kv": 20, "mask_block_size": 8}
    cases = []
    for place in ("one.npz", "other.npz"):
        np.savez(tmp_path / place, blocks=table)
        cases.append(make_case(**with_files({**fields, "mask_blocks": f"file:{tmp_path / place}"})))
    assert np.array_equal(block_table(cases[0]), table)
    assert np.array_equal(dense_mask(cases[0])[0, 0, ::8, ::8], table)
    assert visible_pairs(cases[0]) == 8 * int(table @ [8, 8, 4] @ np.ones(5))
    assert cases[0].case_id == cases[1].case_id != make_case(**fields).case_id
    assert "block_sparse 8 file:one.npz" in cases[0].label()
    np.savez(tmp_path / "small.npz", blocks=table[:4])
    np.savez(tmp_path / "floats.npz", blocks=table.astype(float))
    for name, sentence in (("small", "have shape (4, 3); (blocks of queries, blocks of keys) is (5, 3)"),
                           ("floats", "are of the dtype float64"), ("none", "No such file")):  # fmt: skip
        (problem,) = file_problems(make_case(**fields, mask_blocks=f"file:{tmp_path / name}.npz"))
        assert sentence in problem


def test_padding_on_the_left_hides_the_first_keys_and_leaves_rows_without_any() -> None:
    case = make_case(
        mask="causal & left_padding", batch=2, seqlen_q=3, seqlen_kv=5, alignment="bottom_right", kv_starts=[0, 4]
    )
    seen = [["".join("x" if key else "." for key in row) for row in plane[0]] for plane in dense_mask(case)]
    assert seen == [["xxx..", "xxxx.", "xxxxx"], [".....", ".....", "....x"]]
    both = make_case(mask="key_padding & left_padding", seqlen_q=1, seqlen_kv=5, kv_starts=[1], kv_lengths=[3])
    assert dense_mask(both)[0, 0, 0].tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("parents", [[-1], [-1, 0, 1, 2], [-1, 0, 0, 1, 1, 2, 2], [-1, 0, 0, 0, 1, 1, 2, 4]])
def test_usual_trees_of_one_to_eight_drafts_are_what_walking_up_finds(parents: list[int]) -> None:
    case = make_case(mask="tree", seqlen_q=8, seqlen_kv=20, alignment="bottom_right", tree_parents=parents)
    assert (dense_mask(case)[0, 0] == all_pairs(case)[0]).all()


def test_every_parameter_is_a_field_of_a_case() -> None:
    assert {*PARAMETERS} < {field.name for field in dataclasses.fields(Case)}
    for name, kind in MASKS.items():
        length_of = kind.lengths(1 if name == "ragged" else 2, 40, 40)
        case = make_case(mask=name, seqlen_q=40, batch=1 if name == "ragged" else 2)
        for parameter in kind.parameters:
            given = length_of[parameter.name] if parameter.default is None else parameter.default
            assert getattr(case, parameter.name) == parameter.canonical(given)


def test_the_documentation_lists_every_kind_and_parameter() -> None:
    docs = Path(__file__).parents[2] / "docs"
    formats, kernels = (docs / name for name in ("file-formats.md", "bring-your-own-kernel.md"))
    assert {name for name in (*MASKS, *PARAMETERS) if f"`{name}`" not in formats.read_text()} == set()
    assert {name for name in MASKS if f"`{name}`" not in kernels.read_text()} == set()
