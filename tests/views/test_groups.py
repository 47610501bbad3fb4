"""Cases that differ only in length are a group, named by its difference from other groups."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.views.cells import cells_of
from attnbench.views.groups import Grouping, group_cells
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile


@pytest.fixture
def grouped(run_of: Callable[..., RunFile]) -> Callable[..., Grouping]:
    """Return a function that groups cases given by their fields; ``tags`` names a case."""

    def group(*cases: dict[str, Any]) -> Grouping:
        lines = []
        for fields in cases:
            given = {"cell_tags": fields.get("tags", []), "device": fields.get("device", "cpu")}
            case = make_case(**{name: value for name, value in fields.items() if name not in ("tags", "device")})
            lines.append(timed(case, "a/a", 100.0, **given))
        return group_cells(cells_of(run_of(lines)))

    return group


def shape(grouping: Grouping) -> list[tuple[str, list[int]]]:
    return [(group.label, group.lengths) for group in grouping.groups]


def test_lengths_alone_make_one_group_without_a_name(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped({"seqlen_q": 256}, {"seqlen_q": 128}, {"seqlen_q": 512})
    assert shape(grouping) == [("", [128, 256, 512])]
    assert grouping.common == "forward · float32 · no mask · batch 1 · heads 8 · head_dim 64 · cpu"


def test_groups_are_named_by_what_differs_and_the_rest_is_said_once(grouped: Callable[..., Grouping]) -> None:
    kinds = itertools.product((64, 128), ("float32", "bfloat16"), ("none", "causal"))
    grouping = grouped(*({"seqlen_q": tokens, "dtype": dtype, "mask": mask} for tokens, dtype, mask in kinds))
    assert shape(grouping) == [
        ("float32 · no mask", [64, 128]),
        ("float32 · causal", [64, 128]),
        ("bfloat16 · no mask", [64, 128]),
        ("bfloat16 · causal", [64, 128]),
    ]
    assert grouping.common == "forward · batch 1 · heads 8 · head_dim 64 · cpu"


def test_what_follows_from_the_length_does_not_split_a_group(grouped: Callable[..., Grouping]) -> None:
    for mask in ("prefix_lm", "document", "key_padding"):
        assert shape(grouped({"seqlen_q": 128, "mask": mask}, {"seqlen_q": 256, "mask": mask})) == [("", [128, 256])]


def test_two_cases_of_one_length_are_told_apart_by_what_differs_in_them(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped(*({"seqlen_q": 128, "mask": "prefix_lm", "prefix_len": n} for n in (16, 64)))
    assert shape(grouping) == [("prefix_len 16", [128]), ("prefix_len 64", [128])]


def test_decoding_grows_in_keys_alone(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped({"seqlen_q": 1, "seqlen_kv": 1024}, {"seqlen_q": 1, "seqlen_kv": 2048}, {"seqlen_q": 512})
    assert shape(grouping) == [("seqlen_q 1", [1024, 2048]), ("seqlen_q = seqlen_kv", [512])]
    axes = {group.seqlen_q: group.axis for group in grouping.groups}
    assert axes == {1: "seqlen_kv", None: "seqlen"}


def test_a_square_case_may_be_where_the_keys_of_a_chunk_begin(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped(*({"seqlen_q": 128, "seqlen_kv": n} for n in (128, 256, 512)))
    assert shape(grouping) == [("", [128, 256, 512])]
    assert grouping.groups[0].axis == "seqlen_kv"
    assert "seqlen_q 128" in grouping.common


def test_names_that_a_scenario_gives_come_first(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped(
        {"seqlen_q": 128, "tags": ["prefill"]},
        {"seqlen_q": 256, "tags": ["prefill"]},
        {"seqlen_q": 512, "dtype": "bfloat16", "tags": ["training"]},
    )
    assert shape(grouping) == [("prefill: float32", [128, 256]), ("training: bfloat16", [512])]


def test_devices_are_groups_of_their_own(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped({"seqlen_q": 128}, {"seqlen_q": 128, "device": "cuda"})
    assert shape(grouping) == [("cpu", [128]), ("cuda", [128])]


def test_a_plain_value_is_named_only_where_it_tells_groups_apart(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped({"seqlen_q": 128}, {"seqlen_q": 128, "strides": "sliced"})
    assert [label for label, _ in shape(grouping)] == ["contiguous", "sliced"]


def test_a_case_is_named_by_its_group_and_its_length(grouped: Callable[..., Grouping]) -> None:
    grouping = grouped({"seqlen_q": 128}, {"seqlen_q": 2048}, {"seqlen_q": 128, "mask": "causal"})
    assert grouping.groups[0].case_label(2048) == "no mask · seqlen 2k"


def test_no_cells_are_no_groups() -> None:
    assert group_cells([]) == Grouping(common="", groups=())
