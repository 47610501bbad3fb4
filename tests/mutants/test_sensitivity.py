"""The oracle is itself tested: every mutant is caught by the inputs of edge-shapes; a blind scenario is shown so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attnbench.mutants.collection import mutants
from tests.conftest import Command


@pytest.fixture(scope="module")
def caught(module_attnbench: Command) -> dict[str, dict[str, Any]]:
    """What ``attnbench check edge-shapes --sensitivity --json`` says of each mutant."""
    finished = module_attnbench("check", "edge-shapes", "--sensitivity", "--json")
    assert finished.code == 0, finished.err
    return {row["mutant"]: row for row in json.loads(finished.out)["rows"]}


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [mutant.name for mutant in mutants()])
def test_edge_shapes_catch(name: str, caught: dict[str, dict[str, Any]]) -> None:
    assert caught[name]["cases_that_catch"] >= 1, f"{caught[name]['mistake']} It went unseen."


def test_a_scenario_that_cannot_see_a_mistake_says_so(attnbench: Command) -> None:
    """One square case with equal heads and no mask sees no wrong mask, and no wrong head map."""
    finished = attnbench("check", "-a", "seqlen=64", "--sensitivity", "--json")
    facts = json.loads(finished.out)
    assert {"mean-of-v", "scale-missing", "zeros"}.isdisjoint(facts["blind_to"])
    assert {"causal-ignored", "group-by-modulo", "dk-missing", "softcap-missing"} <= set(facts["blind_to"])


def test_a_terminal_gets_a_table_and_a_sentence(attnbench: Command) -> None:
    finished = attnbench("check", "-a", "seqlen=64", "--sensitivity")
    assert "mutants are caught" in finished.out
    assert "blind to: " in finished.out
    assert finished.code == 0


def test_json_is_refused_where_a_run_file_is_written(attnbench: Command) -> None:
    finished = attnbench("check", "-a", "seqlen=64", "--json")
    assert finished.code == 2
    assert "attnbench show --json" in finished.err
