from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.cases.bias import alibi_slopes, dense_bias, is_bidirectional, relative_buckets, score_bias
from attnbench.cases.case import make_case


def exact_bucket(relative: int, *, bidirectional: bool) -> int:
    """Return T5's bucket by integer arithmetic: bucket ``exact + k`` begins at (d / exact)^span >= (128 / exact)^k."""
    total = 16 if bidirectional else 32
    half = total // 2
    distance = abs(relative) if bidirectional else max(-relative, 0)
    first = total if bidirectional and relative > 0 else 0
    if distance < half:
        return first + distance
    reached = [k for k in range(half) if distance**half >= half**half * (128 // half) ** k]
    return first + half + max(reached)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_are_exact_near_by_and_logarithmic_beyond(bidirectional: bool) -> None:
    relative = np.arange(-300, 301)
    expected = [exact_bucket(int(d), bidirectional=bidirectional) for d in relative]
    assert relative_buckets(relative, bidirectional=bidirectional).tolist() == expected


def test_t5_buckets_use_all_of_their_range() -> None:
    assert set(relative_buckets(np.arange(-200, 201), bidirectional=True).tolist()) == set(range(32)) - {16}
    assert set(relative_buckets(np.arange(-200, 201), bidirectional=False).tolist()) == set(range(32))


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),
        # four heads' sequence, then every other slope of eight heads'
        (6, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]),
        (12, [2.0**-n for n in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_slopes_are_the_papers(heads: int, slopes: list[float]) -> None:
    assert alibi_slopes(heads).tolist() == pytest.approx(slopes, rel=1e-15)


@pytest.mark.parametrize("heads", range(1, 40))
def test_alibi_has_a_slope_of_its_own_for_each_head(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    assert len(set(slopes.tolist())) == heads
    assert ((slopes > 0) & (slopes < 1)).all()


@pytest.mark.parametrize("alignment", ["top_left", "bottom_right"])
def test_alibi_falls_with_the_distance_from_where_the_query_stands(alignment: str) -> None:
    case = make_case(heads_q=2, seqlen_q=3, seqlen_kv=5, score_mod="alibi", alignment=alignment)
    bias = dense_bias(case, None)
    assert bias is not None
    assert bias.shape == (1, 2, 3, 5)
    place = 2 if alignment == "bottom_right" else 0
    for head, slope in enumerate([2**-4, 2**-8]):
        expected = [[-slope * abs(key - (query + place)) for key in range(5)] for query in range(3)]
        assert bias[0, head].tolist() == pytest.approx(np.array(expected))


@pytest.mark.parametrize(("mask", "bidirectional"), [("none", True), ("causal", False)])
@pytest.mark.parametrize("alignment", ["top_left", "bottom_right"])
def test_relative_bias_looks_each_distance_up_in_the_heads_row(mask: str, bidirectional: bool, alignment: str) -> None:
    case = make_case(heads_q=2, seqlen_q=3, seqlen_kv=40, score_mod="relative_bias", mask=mask, alignment=alignment)
    table = np.random.default_rng(0).standard_normal((2, 32))
    bias = dense_bias(case, table)
    assert bias is not None
    place = 37 if alignment == "bottom_right" else 0
    for head, query, key in np.ndindex(2, 3, 40):
        assert bias[0, head, query, key] == table[head, exact_bucket(key - query - place, bidirectional=bidirectional)]


def test_a_block_of_the_bias_is_that_part_of_the_whole() -> None:
    case = make_case(heads_q=3, seqlen_q=9, seqlen_kv=12, score_mod="relative_bias")
    table = np.random.default_rng(0).standard_normal((3, 32))
    whole = dense_bias(case, table)
    rows, columns = np.array([2, 7]), np.array([1, 5, 11])
    block = score_bias(case, 1, rows, columns, table)
    assert whole is not None
    assert block is not None
    assert np.array_equal(block, whole[0, 1][np.ix_(rows, columns)])


@pytest.mark.parametrize("score_mod", ["none", "softcap", "sink"])
def test_other_modifications_add_nothing(score_mod: str) -> None:
    assert dense_bias(make_case(score_mod=score_mod, seqlen_q=4), None) is None


@pytest.mark.parametrize("score_mod", ["bias", "softcap & bias", "alibi & bias"])
def test_a_batch_of_0_has_a_bias_of_no_elements(score_mod: str) -> None:
    bias = dense_bias(make_case(score_mod=score_mod, batch=0, heads_q=2, seqlen_q=4, seqlen_kv=3), None)
    assert bias is not None
    assert bias.shape == (0, 2, 4, 3)


def test_a_relative_bias_without_its_table_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its table"):
        dense_bias(make_case(score_mod="relative_bias", seqlen_q=4), None)


@pytest.mark.parametrize(
    ("fields", "ahead"),
    [
        ({"mask": "none"}, True),
        ({"mask": "key_padding"}, True),
        ({"mask": "prefix_lm"}, True),
        ({"mask": "causal"}, False),
        ({"mask": "sliding_window", "window_right": 0}, False),
        ({"mask": "sliding_window", "window_right": 1}, True),
        ({"mask": "document", "document_causal": False}, True),
        ({"mask": "document", "document_causal": True}, False),
    ],
)
def test_a_case_is_bidirectional_where_a_query_may_look_ahead(fields: dict[str, object], ahead: bool) -> None:
    assert is_bidirectional(make_case(**fields)) is ahead


def test_slopes_follow_the_geometric_formula() -> None:
    assert alibi_slopes(16).tolist() == pytest.approx([math.exp2(-8 * (h + 1) / 16) for h in range(16)])
