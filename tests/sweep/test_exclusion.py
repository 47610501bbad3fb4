from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.cases.case import make_case
from attnbench.sweep.expand import expand

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.sweep.model import Scenario

    Load = Callable[[str], Scenario]


def test_a_rule_drops_what_matches_all_of_its_entries(scenario: Load) -> None:
    loaded = scenario(
        'axes = {mask = ["none", "causal"], seqlen = [64, 128]}\nexclude = [{mask = "causal", seqlen = 128}]'
    )
    found = [(one.case.mask, one.case.seqlen_q) for one in expand(loaded, {})]
    assert found == [("none", 64), ("none", 128), ("causal", 64)]


def test_several_rules_drop_what_matches_any_of_them(scenario: Load) -> None:
    loaded = scenario("axes.seqlen = [64, 128, 256]\nexclude = [{seqlen = 64}, {seqlen = 256}]")
    assert [one.case.seqlen_q for one in expand(loaded, {})] == [128]


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ('"> 128"', [64, 128]),
        ('">= 128"', [64]),
        ('"<128"', [128, 1024]),
        ('"<= 128"', [1024]),
        ('"> 1k"', [64, 128, 1024]),
        ('"1k"', [64, 128]),
        ("[64, 1024]", [128]),
        ('[64, "> 512"]', [128]),
    ],
)
def test_conditions_are_values_lists_and_comparisons(scenario: Load, condition: str, left: list[int]) -> None:
    loaded = scenario(f"axes.seqlen = [64, 128, 1024]\nexclude = [{{seqlen_q = {condition}}}]")
    assert [one.case.seqlen_q for one in expand(loaded, {})] == left


def test_a_shorthand_holds_when_both_fields_do(scenario: Load) -> None:
    loaded = scenario("axes = {seqlen_q = [1, 64], seqlen_kv = [64]}\nexclude = [{seqlen = 64}]")
    assert [one.case.seqlen_q for one in expand(loaded, {})] == [1]


def test_numbers_with_a_fraction_compare_too(scenario: Load) -> None:
    loaded = scenario('axes.scale = [0.25, 1.0]\nexclude = [{scale = "> 0.5"}]')
    assert [one.case.scale for one in expand(loaded, {})] == [0.25]


def test_what_a_case_does_not_have_never_matches(scenario: Load) -> None:
    loaded = scenario('exclude = [{window_left = ">= 0"}, {kv_lengths = "3+5"}]')
    assert len(expand(loaded, {})) == 1


def test_lists_of_lengths_match_as_a_whole(scenario: Load) -> None:
    loaded = scenario(
        'defaults = {mask = "key_padding", batch = 2}\naxes.kv_lengths = [[3, 5], [5, 3]]\n'
        'exclude = [{kv_lengths = "3+5"}]'
    )
    assert [one.case.kv_lengths for one in expand(loaded, {})] == [(5, 3)]


def test_a_rule_may_drop_combinations_that_are_no_case(scenario: Load) -> None:
    loaded = scenario(
        'axes = {mode = ["forward", "backward"], kv_cache = ["dense", "paged"]}\n'
        'exclude = [{mode = "backward", kv_cache = "paged"}]'
    )
    found = [(one.case.mode, one.case.kv_cache) for one in expand(loaded, {})]
    assert found == [("forward", "dense"), ("forward", "paged"), ("backward", "dense")]


def test_a_rule_about_an_impossible_combination_sees_the_defaults(scenario: Load) -> None:
    # heads_kv defaults to heads_q, and no document mask fits these lengths.
    loaded = scenario(
        'defaults.seqlen_kv = 7\naxes.mask = ["none", "document"]\nexclude = [{mask = "document", heads_kv = 8}]'
    )
    assert [one.case.mask for one in expand(loaded, {})] == ["none"]


class TestDevicesAndImplementations:
    TEXT = """
        axes.seqlen = [64, 128]
        [[exclude]]
        device = "cpu"
        implementation = "^naive/"
        seqlen = "> 64"
        reason = "too slow"
        [[exclude]]
        device = "cuda"
        seqlen = 64
    """

    def test_rules_about_them_drop_cells_not_cases(self, scenario: Load) -> None:
        assert len(expand(scenario(self.TEXT), {})) == 2

    def test_the_reason_is_the_rules_own_or_says_that_there_is_a_rule(self, scenario: Load) -> None:
        loaded, small, large = scenario(self.TEXT), make_case(seqlen_q=64), make_case(seqlen_q=128)
        assert loaded.excluded(large, device="cpu", implementation="naive/torch") == "too slow"
        assert loaded.excluded(small, device="cuda", implementation="naive/torch") == "the scenario excludes it"

    def test_a_cell_that_differs_in_one_of_them_stays(self, scenario: Load) -> None:
        loaded, small, large = scenario(self.TEXT), make_case(seqlen_q=64), make_case(seqlen_q=128)
        assert loaded.excluded(small, device="cpu", implementation="naive/torch") is None
        assert loaded.excluded(large, device="cuda", implementation="naive/torch") is None
        assert loaded.excluded(large, device="cpu", implementation="not-naive/torch") is None

    def test_what_is_not_given_does_not_match(self, scenario: Load) -> None:
        loaded, large = scenario(self.TEXT), make_case(seqlen_q=128)
        assert loaded.excluded(large) is None
        assert loaded.excluded(large, device="cpu") is None
        assert loaded.excluded(large, implementation="naive/torch") is None
