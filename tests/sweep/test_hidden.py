"""Cases that hide nearly all query-key pairs are reported, with the option that shows them again."""

from __future__ import annotations

import pytest

from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.hidden import hidden_pairs
from attnbench.sweep.load import bundled_scenarios, load_scenario


def told(*axes: str) -> list[str]:
    return hidden_pairs(expand(adhoc(), parse_overrides(axes)))


@pytest.mark.parametrize(
    ("axes", "seen"),
    [
        (["seqlen_q=1", "seqlen_kv=4k", "mask=causal"], "shows 1 of the 4,096 query-key pairs"),
        (["seqlen_q=8", "seqlen_kv=128", "mask=causal"], "shows 36 of the 996 query-key pairs"),
        (["seqlen_q=1", "seqlen_kv=4k", "mask=sliding_window"], "shows 1 of the 257 query-key pairs"),
    ],
)
def test_decoding_with_the_default_alignment(axes: list[str], seen: str) -> None:
    (said,) = told(*axes)
    assert seen in said
    assert "write alignment=bottom_right" in said


@pytest.mark.parametrize(
    "axes",
    [
        ["seqlen_q=1", "seqlen_kv=4k", "mask=none"],
        ["seqlen_q=1", "seqlen_kv=4k", "mask=causal", "alignment=bottom_right"],
        ["seqlen_q=1", "seqlen_kv=4k", "mask=causal", "alignment=top_left"],
        ["seqlen_q=64", "seqlen_kv=128", "mask=causal"],
        ["seqlen_q=128", "seqlen_kv=8", "mask=causal"],
        ["seqlen=4k", "mask=sliding_window", "window_left=1"],
        ["seqlen=64", "mask=causal & key_padding"],
    ],
)
def test_not_what_is_said_or_shows_enough(axes: list[str]) -> None:
    assert told(*axes) == []


def test_masks_that_leave_nearly_nothing_in_common() -> None:
    axes = ["seqlen_q=1", "seqlen_kv=1k", "mask=sliding_window & key_padding", "alignment=bottom_right"]
    (said,) = told(*axes, "kv_lengths=780")
    assert said.endswith(
        "sliding_window & key_padding shows 13 of the 257 query-key pairs that sliding_window shows alone"
    )
    assert told(*axes, "kv_lengths=1024") == []


def test_many_cases_are_one_sentence() -> None:
    (said,) = told("seqlen_q=1", "seqlen_kv=1k,2k,4k", "mask=causal")
    assert said.startswith("forward b1 h8 s1x1024 d64 float32 causal, and 2 more cases: ")


@pytest.mark.parametrize("name", bundled_scenarios())
def test_no_bundled_scenario_hides_its_keys(name: str) -> None:
    assert hidden_pairs(expand(load_scenario(name), {})) == []
