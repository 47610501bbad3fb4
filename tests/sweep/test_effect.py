"""A field that no case uses must be a mistake, and is refused where it was set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import Scenario, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[[str], Scenario]


UNEQUAL = "unequal lengths, and a mask or a score modification that follows the diagonal"


def refused(scenario: Scenario, *axes: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        expand(scenario, parse_overrides(axes))
    return caught.value.problems


@pytest.mark.parametrize(
    ("axes", "needs"),
    [
        (["softcap=30"], "softcap has no effect on any case: it needs score_mod = 'softcap'"),
        (["window_left=128"], "window_left has no effect on any case: it needs mask = 'sliding_window'"),
        (["mask=causal", "window_right=1"], "window_right has no effect on any case: it needs mask = 'sliding_window'"),
        (["mask=causal", "kv_lengths=24+10"], "kv_lengths has no effect on any case: it needs mask = 'key_padding'"),
        (["prefix_len=3"], "prefix_len has no effect on any case: it needs mask = 'prefix_lm'"),
        (["document_lengths=3+5"], "document_lengths has no effect on any case: it needs mask = 'document'"),
        (["document_causal=false"], "document_causal has no effect on any case: it needs mask = 'document'"),
        (["page_size=32"], "page_size has no effect on any case: it needs kv_cache = 'paged'"),
        (["mask=causal", "alignment=bottom_right"], f"alignment has no effect on any case: it needs {UNEQUAL}"),
    ],
)  # fmt: skip
def test_on_the_command_line(axes: list[str], needs: str) -> None:
    assert refused(adhoc(), *axes) == [needs]


@pytest.mark.parametrize(
    "axes",
    [
        ["softcap=30", "score_mod=none,softcap"],
        ["window_left=128", "mask=causal,sliding_window"],
        ["kv_lengths=24", "seqlen=32", "mask=key_padding"],
        ["alignment=bottom_right", "mask=none,causal", "seqlen_q=8", "seqlen_kv=8,16"],
        ["alignment=bottom_right", "score_mod=alibi", "seqlen_q=8", "seqlen_kv=16"],
        ["page_size=32", "kv_cache=paged"],
    ],
)
def test_not_where_some_case_takes_it(axes: list[str]) -> None:
    assert expand(adhoc(), parse_overrides(axes))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("defaults.softcap = 30.0", "defaults: softcap has no effect on any case: it needs score_mod = 'softcap'"),
        ("axes.window_left = [1, 2]", "axes: window_left has no effect on any case: it needs mask = 'sliding_window'"),
        ("zip = [{heads = [2, 4], page_size = [16, 32]}]",
         "zip[0]: page_size has no effect on any case: it needs kv_cache = 'paged'"),
        ("shapes.a.mask = 'sliding_window'\nshapes.b.window_left = 3",
         "shapes.b: window_left has no effect on any case: it needs mask = 'sliding_window'"),
    ],
)  # fmt: skip
def test_in_a_scenario(scenario: Load, text: str, sentence: str) -> None:
    assert refused(scenario(text)) == [sentence]


def test_defaults_may_be_meant_for_some_of_the_cases(scenario: Load) -> None:
    loaded = scenario("defaults.window_left = 8\naxes.mask = ['none', 'causal', 'sliding_window']")
    assert len(expand(loaded, {})) == 3


def test_a_rule_may_leave_out_the_case_that_takes_it(scenario: Load) -> None:
    text = "defaults.window_left = 8\naxes.mask = ['none', 'sliding_window']\nexclude = [{mask = 'sliding_window'}]"
    assert len(expand(scenario(text), {})) == 1


def test_a_scenarios_fields_may_lose_their_effect_to_the_command_line(scenario: Load) -> None:
    loaded = scenario("defaults = {mask = 'sliding_window', window_left = 8}")
    assert expand(loaded, parse_overrides(["mask=causal"]))
    assert refused(loaded, "mask=causal", "window_right=8") == [
        "window_right has no effect on any case: it needs mask = 'sliding_window'"
    ]


def test_a_bases_fields_may_lose_theirs_to_the_scenario_that_extends_it(write: Callable[..., str]) -> None:
    write("defaults = {mask = 'sliding_window', window_left = 8}", "base.toml")
    assert expand(load_scenario(write("extends = 'base.toml'\ndefaults.mask = 'causal'")), {})


@pytest.mark.parametrize("text", ["defaults.softcap = 30.0", "shapes.a = {softcap = 30.0, seqlen = 8}"])
def test_what_the_extending_scenario_itself_sets_must_have_one(write: Callable[..., str], text: str) -> None:
    write("defaults = {mask = 'sliding_window', window_left = 8}", "base.toml")
    loaded = load_scenario(write(f"extends = 'base.toml'\n{text}\ndefaults.mask = 'causal'"))
    (said,) = refused(loaded)
    assert "softcap has no effect on any case" in said
    assert expand(Scenario.from_dict(loaded.to_dict()), {}), "a run file does not keep who set what"
