"""Tests the oracle: the cases of edge-shapes catch every mutant, and a blind scenario is reported as such."""

from __future__ import annotations

import gc
import json

import pytest

from attnbench import Case
from attnbench.cases.cost import tensor_elements
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import Mutant
from attnbench.mutants.trial import trial
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from tests.conftest import Command


@pytest.fixture(scope="module")
def caught() -> set[str]:
    """Return the mutants that any case of ``edge-shapes`` catches.

    Each is tried until a case catches it: first cases with gradients, which also reveal wrong outputs, and small cases
    first. Mutants that outputs and gradients do not reveal are then tried with identities, which take several times as
    long.
    """
    scenario = load_scenario("edge-shapes")
    planned = dict.fromkeys(one.case for one in expand(scenario, {}))
    cases = sorted(
        (one for one in planned if scenario.excluded(one, device="cpu", implementation="mutant/any") is None), key=place
    )
    at_large = {mutant.name: mutant for mutant in mutants()}
    for identities in (False, True):
        for case in cases:
            said = trial(case, list(at_large.values()), identities=identities) if at_large else {}
            at_large = {name: mutant for name, mutant in at_large.items() if said.get(name) is None}
            gc.freeze()  # spares garbage collections between trials the modules imported so far
    return {mutant.name for mutant in mutants()} - set(at_large)


def place(case: Case) -> tuple[bool, int]:
    return case.mode != "backward", sum(tensor_elements(case).values())


@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")  # a mutant's, of overflows that are its mistake
@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_edge_shapes_catch(mutant: Mutant, caught: set[str]) -> None:
    assert mutant.name in caught, f"{mutant.sentence} It went unseen."


def test_a_scenario_that_cannot_see_a_mistake_says_so(attnbench: Command) -> None:
    """A square case with equal heads and no mask reveals no wrong mask and no wrong head map."""
    finished = attnbench("check", "-a", "seqlen=64", "--sensitivity", "--json")
    facts = json.loads(finished.out)
    assert {"mean-of-v", "scale-missing", "zeros"}.isdisjoint(facts["blind_to"])
    assert {"causal-ignored", "group-by-modulo", "dk-missing", "softcap-missing"} <= set(facts["blind_to"])


def test_a_terminal_gets_a_table_and_a_sentence(attnbench: Command) -> None:
    finished = attnbench("check", "-a", "seqlen=64", "--sensitivity")
    assert "mutants are caught" in finished.out
    assert "blind to: " in finished.out
    assert finished.code == 0
