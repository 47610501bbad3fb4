from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attnbench.cases.case import make_case
from attnbench.cases.choices import CHOICES
from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.fields import NAMES
from attnbench.sweep.model import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.sweep.model import Scenario

    Load = Callable[[str], Scenario]


def lengths(scenario: Scenario, *overrides: str) -> list[tuple[int, int]]:
    return [(one.case.seqlen_q, one.case.seqlen_kv) for one in expand(scenario, parse_overrides(overrides))]


def heads(scenario: Scenario, *overrides: str) -> list[tuple[int, int]]:
    return [(one.case.heads_q, one.case.heads_kv) for one in expand(scenario, parse_overrides(overrides))]


def test_an_empty_scenario_is_the_default_case() -> None:
    assert [one.case for one in expand(adhoc(), {})] == [make_case()]


def test_axes_are_combined_in_their_order_the_last_one_quickest(scenario: Load) -> None:
    loaded = scenario('axes.mask = ["none", "causal"]\naxes.seqlen = [128, "1k"]')
    found = [(one.case.mask, one.case.seqlen_q) for one in expand(loaded, {})]
    assert found == [("none", 128), ("none", 1024), ("causal", 128), ("causal", 1024)]


def test_a_shorthand_sets_both_fields(scenario: Load) -> None:
    assert lengths(scenario("axes.seqlen = [64, 96]")) == [(64, 64), (96, 96)]
    assert heads(scenario("defaults.heads = 4")) == [(4, 4)]


def test_an_axis_may_be_a_single_value_or_a_range(scenario: Load) -> None:
    assert lengths(scenario('axes.seqlen = "128..512"')) == [(128, 128), (256, 256), (512, 512)]
    assert lengths(scenario('axes.seqlen = [1, "2..4"]')) == [(1, 1), (2, 2), (4, 4)]
    assert lengths(scenario("axes.seqlen = 64")) == [(64, 64)]


@pytest.mark.parametrize("text", ["heads = 8\nheads_kv = 2", "heads_kv = 2\nheads = 8"])
def test_a_field_beside_its_shorthand_wins_in_either_order(scenario: Load, text: str) -> None:
    assert heads(scenario(f"[defaults]\n{text}")) == [(8, 2)]
    assert heads(scenario(f"[shapes.a]\n{text}")) == [(8, 2)]


def test_zipped_fields_advance_together(scenario: Load) -> None:
    loaded = scenario("[[zip]]\nheads_q = [32, 32, 16]\nheads_kv = [32, 8, 1]")
    assert heads(loaded) == [(32, 32), (32, 8), (16, 1)]


def test_two_groups_are_combined_with_each_other(scenario: Load) -> None:
    loaded = scenario("zip = [{heads_q = [4, 8], heads_kv = [4, 2]}, {seqlen_q = [1, 64], seqlen_kv = [64, 32]}]")
    found = [(one.case.heads_kv, one.case.seqlen_q) for one in expand(loaded, {})]
    assert found == [(4, 1), (4, 64), (2, 1), (2, 64)]


def test_lists_of_lengths_are_values_of_an_axis(scenario: Load) -> None:
    loaded = scenario('defaults = {mask = "document", seqlen = 8}\naxes.document_lengths = [[3, 5], [1, 7]]')
    assert [one.case.document_lengths for one in expand(loaded, {})] == [(3, 5), (1, 7)]


def test_shapes_are_combined_with_the_axes_and_leave_their_names_as_tags(scenario: Load) -> None:
    loaded = scenario('shapes.small.seqlen = 64\nshapes.large.seqlen = 128\naxes.mask = ["none", "causal"]')
    found = [(one.case.seqlen_q, one.case.mask, one.tags) for one in expand(loaded, {})]
    assert found == [
        (64, "none", ("small",)),
        (64, "causal", ("small",)),
        (128, "none", ("large",)),
        (128, "causal", ("large",)),
    ]


def test_a_case_takes_each_field_from_the_last_place_that_sets_it(scenario: Load) -> None:
    loaded = scenario("defaults.heads = 2\nshapes.a.heads = 4\nshapes.b.seqlen = 64\naxes.heads_kv = [1]")
    assert heads(loaded) == [(4, 1), (2, 1)]


def test_equal_cases_are_planned_once_with_the_tags_of_both(scenario: Load) -> None:
    # A quarter of 1024 keys is the default, so that both shapes are the same problem.
    loaded = scenario("[shapes.a]\nmask = 'prefix_lm'\n[shapes.b]\nmask = 'prefix_lm'\nprefix_len = 256")
    (only,) = expand(loaded, {})
    assert only.tags == ("a", "b")


def test_expansion_has_a_stable_order(scenario: Load) -> None:
    loaded = scenario('axes = {seqlen = "32..256", mask = ["none", "causal"], batch = [1, 2]}')
    first = [one.case.case_id for one in expand(loaded, {})]
    assert first == [one.case.case_id for one in expand(loaded, {})]
    assert len(set(first)) == 16


def test_an_impossible_combination_is_a_mistake_with_the_combination(scenario: Load) -> None:
    loaded = scenario("defaults.heads_q = 8\naxes = {heads_kv = [8, 3], seqlen = [64, 128, 256]}")
    with pytest.raises(ScenarioError) as caught:
        expand(loaded, {})
    assert caught.value.problems == [
        (
            "heads_q = 8 is not a multiple of heads_kv = 3 "
            "(in heads_q=8, heads_kv=3, seqlen_q=64, seqlen_kv=64; 2 more combinations too)"
        )
    ]


def test_a_combination_that_the_command_line_makes_twice_is_reported_once(scenario: Load) -> None:
    with pytest.raises(ScenarioError) as caught:
        expand(scenario("axes.heads_kv = [2, 4]"), {"heads_kv": ["3"]})
    assert caught.value.problems == ["heads_q = 8 is not a multiple of heads_kv = 3 (in heads_kv=3)"]


def test_many_kinds_of_impossible_combinations_are_cut_short(scenario: Load) -> None:
    loaded = scenario("defaults.heads_q = 2\naxes.heads_kv = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]")
    with pytest.raises(ScenarioError) as caught:
        expand(loaded, {})
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "and 2 more mistakes of this kind"


class TestOverrides:
    def test_replace_an_axis(self, scenario: Load) -> None:
        loaded = scenario("axes.seqlen = [64, 128]\ndefaults.heads = 2")
        assert lengths(loaded, "seqlen=1k,2k") == [(1024, 1024), (2048, 2048)]

    def test_replace_one_half_of_a_shorthand(self, scenario: Load) -> None:
        assert lengths(scenario("axes.seqlen = [64, 128]"), "seqlen_q=1") == [(1, 64), (1, 128)]

    def test_replace_a_default_and_a_member_of_a_group(self, scenario: Load) -> None:
        loaded = scenario("defaults.seqlen = 64\nzip = [{heads_q = [4, 8], heads_kv = [2, 2]}]")
        assert heads(loaded, "heads_kv=1") == [(4, 1), (8, 1)]
        assert lengths(loaded, "seqlen=32") == [(32, 32)] * 2

    def test_replace_the_field_in_every_shape_and_merge_what_is_then_equal(self, scenario: Load) -> None:
        loaded = scenario("shapes.a.seqlen = 64\nshapes.b.seqlen = 128\n[shapes.c]\nseqlen = 32\nmask = 'causal'")
        found = [(one.case.seqlen_q, one.case.mask, one.tags) for one in expand(loaded, {"seqlen": ["96"]})]
        assert found == [(96, "none", ()), (96, "causal", ())]

    def test_a_shape_that_is_changed_is_no_longer_the_named_one(self, scenario: Load) -> None:
        loaded = scenario("shapes.short.seqlen = 64\nshapes.causal.mask = 'causal'")
        found = [(one.case.seqlen_q, one.tags) for one in expand(loaded, {"seqlen": ["64"], "dtype": ["float16"]})]
        assert found == [(64, ("short",)), (64, ("causal",))]
        assert [one.tags for one in expand(loaded, {"seqlen": ["32"]})] == [(), ("causal",)]

    @pytest.mark.parametrize("texts", [("heads=8", "heads_kv=2"), ("heads_kv=2", "heads=8")])
    def test_mean_the_same_in_either_order(self, texts: tuple[str, str]) -> None:
        assert heads(adhoc(), *texts) == [(8, 2)]

    def test_may_be_a_range_or_given_twice(self) -> None:
        assert lengths(adhoc(), "seqlen=1..4", "seqlen=7") == [(1, 1), (2, 2), (4, 4), (7, 7)]

    def test_are_parsed_to_values_by_field(self) -> None:
        texts = ["seqlen=128,1k", "dtype=bfloat16", "kv_lengths=3+5,4+4", "inputs=file:a,b.npz", "document_causal=true"]
        assert parse_overrides(texts) == {
            "seqlen": ["128", "1k"],
            "dtype": ["bfloat16"],
            "kv_lengths": ["3+5", "4+4"],
            "inputs": [f"file:{Path('a,b.npz').absolute()}"],  # a path may hold a comma
            "document_causal": ["true"],
        }

    def test_give_lists_and_flags_to_the_cases(self) -> None:
        texts = ["seqlen=8", "mask=document", "document_lengths=3+5,4+4", "document_causal=true,false"]
        cases = [one.case for one in expand(adhoc(), parse_overrides(texts))]
        assert [(case.document_lengths, case.document_causal) for case in cases] == [
            ((3, 5), True), ((3, 5), False), ((4, 4), True), ((4, 4), False),
        ]  # fmt: skip

    def test_may_join_masks_in_any_order(self) -> None:
        cases = [one.case for one in expand(adhoc(), parse_overrides(["mask=key_padding&causal,causal & key_padding"]))]
        assert [case.mask for case in cases] == ["causal & key_padding"]

    def test_with_mistakes_are_refused_with_a_sentence_for_each(self) -> None:
        with pytest.raises(ScenarioError) as caught:
            parse_overrides(["seqlen=12,1q", "sqlen=3", "dtype", "mode=backwards", "scale=-1", "mask=none & casual"])
        assert caught.value.problems == [
            "seqlen: '1q' is not an integer >= 0, or a size such as 16k",
            f"sqlen: unknown field; did you mean 'seqlen'? (there are {', '.join(NAMES)})",
            "'dtype' is not of the form NAME=VALUE[,VALUE...]",
            "mode: 'backwards' is none of forward, backward, forward_backward; did you mean 'backward'?",
            "scale: '-1' is not a number > 0",
            f"mask: 'casual' is none of {', '.join(CHOICES['mask'])}; did you mean 'causal'?",
        ]


def test_agreement_is_always_measured_and_stages_keep_their_order(scenario: Load) -> None:
    assert scenario('stages = ["memory", "time"]').stages == ("agreement", "time", "memory")
    assert scenario("stages = []").stages == ("agreement",)
