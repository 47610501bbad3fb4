from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import Scenario, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[..., str]

BASE = """
    description = "The base."
    tags = ["cpu"]
    baseline = "naive/torch"
    [defaults]
    heads = 4
    head_dim = 32
    [axes]
    seqlen = [64, 128]
    mask = ["none", "causal"]
    [limits]
    time_s = 7
    min_samples = 3
    [[exclude]]
    seqlen = 128
    mask = "causal"
"""


@pytest.fixture
def derived(write: Write) -> Callable[[str], Scenario]:
    """Return a function that loads a scenario which extends :data:`BASE`."""
    write(BASE, "base.toml")
    return lambda text: load_scenario(write(f'extends = "base.toml"\n{text}', "derived.toml"))


def test_what_is_not_said_is_the_bases(derived: Callable[[str], Scenario]) -> None:
    loaded = derived("")
    assert (loaded.description, loaded.tags, loaded.baseline) == ("The base.", ("cpu",), "naive/torch")
    assert [(one.case.seqlen_q, one.case.mask) for one in expand(loaded, {})] == [
        (64, "none"), (64, "causal"), (128, "none"),
    ]  # fmt: skip


def test_the_name_is_the_files_own(derived: Callable[[str], Scenario]) -> None:
    assert derived("").name == "derived"


def test_the_name_of_the_base_is_not_inherited(write: Write) -> None:
    write('name = "first"', "base.toml")
    assert load_scenario(write('extends = "base.toml"', "second.toml")).name == "second"


def test_tables_are_merged_entry_by_entry_and_lists_replaced(derived: Callable[[str], Scenario]) -> None:
    loaded = derived("exclude = [{seqlen = 64}]\ndefaults.head_dim = 16\nlimits.time_s = 9\naxes.seqlen = [64, 96]")
    assert (loaded.limits.time_s, loaded.limits.min_samples) == (9, 3)
    cases = [one.case for one in expand(loaded, {})]
    assert [(case.seqlen_q, case.mask) for case in cases] == [(96, "none"), (96, "causal")]
    assert {(case.heads_q, case.head_dim) for case in cases} == {(4, 16)}


def test_a_field_set_here_replaces_the_bases_in_whichever_table_it_stands(derived: Callable[[str], Scenario]) -> None:
    fixed = [one.case for one in expand(derived("defaults.seqlen = 32"), {})]
    assert [(case.seqlen_q, case.mask) for case in fixed] == [(32, "none"), (32, "causal")]
    varied = [
        one.case for one in expand(derived("axes.heads = [1, 2]\ndefaults.seqlen = 32\ndefaults.mask = 'none'"), {})
    ]
    assert [case.heads_q for case in varied] == [1, 2]


def test_half_of_a_shorthand_is_left_where_the_other_half_is_replaced(derived: Callable[[str], Scenario]) -> None:
    cases = [one.case for one in expand(derived("defaults.seqlen_q = 1\ndefaults.mask = 'none'"), {})]
    assert [(case.seqlen_q, case.seqlen_kv) for case in cases] == [(1, 64), (1, 128)]


def test_fields_of_the_bases_groups_and_shapes_are_replaced_too(write: Write) -> None:
    write("zip = [{heads_q = [4, 8], heads_kv = [2, 2]}]\nshapes.a = {seqlen = 64, mask = 'causal'}", "base.toml")
    path = write('extends = "base.toml"\naxes.heads_kv = [1]\ndefaults.seqlen = 32')
    found = [
        (one.case.heads_q, one.case.heads_kv, one.case.seqlen_q, one.tags) for one in expand(load_scenario(path), {})
    ]
    assert found == [(4, 1, 32, ("a",)), (8, 1, 32, ("a",))]


def test_a_bundled_scenario_can_be_extended(write: Write) -> None:
    loaded = load_scenario(write('extends = "vit-b16"\naxes.batch = [1]\naxes.mode = ["forward"]'))
    (only,) = expand(loaded, {})
    assert (only.case.seqlen_q, only.case.batch, only.case.heads_q) == (197, 1, 12)


def test_a_base_that_is_not_there_is_a_mistake_of_the_one_that_extends_it(write: Write) -> None:
    path = write('extends = "vit-b61"')
    with pytest.raises(
        ScenarioError,
        match=r"mine\.toml: extends: scenario 'vit-b61': no scenario has this name; did you mean 'vit-b16'",
    ):
        load_scenario(path)


def test_only_one_level_is_allowed(write: Write) -> None:
    write("", "grandparent.toml")
    write('extends = "grandparent.toml"', "parent.toml")
    with pytest.raises(ScenarioError, match=r"parent\.toml' extends 'grandparent\.toml' itself; one level is allowed$"):
        load_scenario(write('extends = "parent.toml"'))


def test_mistakes_of_the_base_are_reported_as_the_bases(write: Write) -> None:
    base = write("defaults.hed_dim = 3", "base.toml")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write('extends = "base.toml"'))
    assert str(caught.value).startswith(f"{base}: defaults.hed_dim: unknown field; did you mean 'head_dim'?")


def test_mistakes_of_the_derived_file_are_reported_though_tables_are_merged(derived: Callable[[str], Scenario]) -> None:
    with pytest.raises(ScenarioError) as caught:
        derived("axes = 3\nzip = [4]\n")
    assert caught.value.problems == ["axes: 3 is not a table", "zip[0]: 4 is not a table"]
