"""The judged tokens of a long sequence: its edges, and one from each stretch."""

from __future__ import annotations

import random

import numpy as np
import pytest

from attnbench import make_case
from attnbench.cases.inputs.operands import operand_head
from attnbench.cases.inputs.sampling import SPARSE_ROWS, key_edges, query_edges, spread, upstream_rows
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.selection import MAX_KEYS, select

LONG = {"heads_q": 1, "seqlen_q": 2**15, "seqlen_kv": 2**15, "head_dim": 8, "mode": "backward", "mask": "causal"}


def test_every_stretch_has_a_token() -> None:
    chosen = spread(100_000, 1000, (), random.Random(0))
    assert chosen is not None
    assert {n // 100 for n in chosen} == set(range(1000))


def test_a_short_sequence_is_all_of_it() -> None:
    assert spread(64, 64, (), random.Random(0)) is None


def test_edges_are_those_of_tiles_masks_and_documents() -> None:
    case = make_case(seqlen_q=300, mask="document", document_lengths=[7, 190, 103])
    assert {0, 6, 7, 63, 64, 65, 127, 128, 129, 196, 197, 299} <= set(query_edges(case))
    padded = make_case(seqlen_q=300, mask="key_padding", kv_lengths=[211])
    assert {210, 211, 212, 256, 299} <= set(key_edges(padded))
    assert max(key_edges(padded)) == 299


def test_the_first_inputs_of_a_long_case_have_a_sparse_upstream_gradient_and_the_timed_ones_a_whole() -> None:
    case = make_case(**LONG)
    rows = upstream_rows(case, 0)
    assert rows is not None
    assert SPARSE_ROWS <= len(rows) <= 2 * SPARSE_ROWS
    dout = operand_head(case, "dout", 0, 0, 0)
    assert set(np.flatnonzero(np.abs(dout).sum(-1))) == set(rows)
    assert (np.abs(operand_head(case, "dout", 0, 0, 1)).sum(-1) > 0).all()


@pytest.mark.parametrize("fields", [{"mode": "forward"}, {"seqlen_q": 4096, "seqlen_kv": 4096}])
def test_other_cases_have_a_whole_one(fields: dict[str, object]) -> None:
    assert upstream_rows(make_case(**{**LONG, **fields}), 0) is None


def test_gradients_of_keys_of_a_long_case_follow_exactly_from_the_sampled_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compared with all queries, for the same sparse upstream gradient, on a case small enough for both."""
    case = make_case(**{**LONG, "seqlen_q": 160, "seqlen_kv": 160})
    rows = (0, 1, 63, 64, 150)
    few = select(case)
    few = type(few)(few.groups, rows, gradients_of_keys=True, keys=(0, 5, 149, 159))
    sparse = operand_head(case, "dout", 0, 0, 0).copy()
    sparse[[row for row in range(160) if row not in rows]] = 0
    monkeypatch.setattr(
        "attnbench.oracle.answer.reference.operand_head",
        lambda c, name, b, h, r: sparse if name == "dout" else operand_head(c, name, b, h, r),
    )
    everything, sampled = (reference(case, selection, 0, EXACT) for selection in (select(case), few))
    for name in ("dk", "dv"):
        assert np.allclose(sampled[name], everything[name][:, [0, 5, 149, 159]], atol=1e-14)


def test_a_long_case_is_judged_in_a_bounded_number_of_keys_one_of_each_stretch() -> None:
    case = make_case(**{**LONG, "seqlen_q": 512, "seqlen_kv": 2**20})
    selection = select(case)
    assert selection.gradients_of_keys
    assert selection.keys is not None
    assert MAX_KEYS <= len(selection.keys) < MAX_KEYS + 40
    assert np.diff(selection.keys).max() < 2 * 2**20 // MAX_KEYS
    assert select(case, 1).rows != selection.rows, "the timed inputs are judged elsewhere"
