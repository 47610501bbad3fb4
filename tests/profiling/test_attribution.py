"""Products on other threads are told by what the thread that makes the calls multiplies then."""

from __future__ import annotations

import pytest

from attnbench.profiling.attribution import Attributed, told_by_the_caller
from attnbench.profiling.perf_events import Sample
from attnbench.profiling.phases import Phase

MAIN, OTHER = 1, 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((90, Phase.GRADIENTS), (110, Phase.GRADIENTS), Phase.GRADIENTS),
        ((90, Phase.QK), (110, Phase.PV), Phase.PRODUCTS),  # between two of them
        ((90, Phase.SOFTMAX), (110, Phase.SOFTMAX), Phase.PRODUCTS),  # it multiplies nothing
        ((10, Phase.QK), (110, Phase.QK), Phase.PRODUCTS),  # too long ago
    ],
)
def test_products_of_other_threads_are_those_of_the_callers(
    before: tuple[int, Phase], after: tuple[int, Phase], said: Phase
) -> None:
    seen = [(MAIN, *before), (OTHER, 100, Phase.PRODUCTS), (MAIN, *after), (OTHER, 105, Phase.COPIES)]
    samples = [Sample(time_ns, thread, 0, 0, 0, b"") for thread, time_ns, _ in seen]
    found = told_by_the_caller(samples, [Attributed(phase, "", ()) for *_, phase in seen], MAIN, 50)
    assert [one.phase for one in found] == [before[1], said, after[1], Phase.COPIES]
