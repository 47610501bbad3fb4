"""A few hundred inputs, always the same; ``python -m tests.fuzz`` draws any number."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.targets import TARGETS, survives

INPUTS = {"scenario": 100, "axes": 100, "tensors": 100, "run": 30, "hooks": 60}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_input_ends_in_anything_but_a_result_or_a_sentence(name: str) -> None:
    strategy, target = TARGETS[name]

    @settings(
        max_examples=INPUTS[name], derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
    )  # fmt: skip
    @given(strategy)
    def fuzz(one: object) -> None:
        survives(target, one)

    fuzz()
