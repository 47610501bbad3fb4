"""Products on other threads have the phase of the calling thread's products at that time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from attnbench.profiling import attribution
from attnbench.profiling.attribution import Attributed, Attribution, rules_from, told_by_the_caller
from attnbench.profiling.code.addresses import Place
from attnbench.profiling.perf_events import Sample
from attnbench.profiling.phases import Phase
from attnbench.profiling.python_lines import LineClock

if TYPE_CHECKING:
    from collections.abc import Iterable

MAIN, OTHER = 1, 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((90, Phase.GRADIENTS), (110, Phase.GRADIENTS), Phase.GRADIENTS),
        ((90, Phase.QK), (110, Phase.PV), Phase.PRODUCTS),  # between two of them
        ((90, Phase.SOFTMAX), (110, Phase.SOFTMAX), Phase.PRODUCTS),  # the caller multiplies nothing
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


class Space:
    """An address space with one library, whose functions are 4 KiB long and unnamed from 0x2000 on."""

    span = (0x1000, 0x9000)

    def places(self, address: int) -> tuple[Place, ...]:
        start = address & ~0xFFF
        return (Place("lib.so", "sgemm_kernel" if start == 0x1000 else f"+{start:#x}"),)

    def frame_rule(self, address: int) -> None:
        return None

    def is_return_address(self, address: int) -> bool:
        return bool(address & 0xFFF)


def sampled(monkeypatch: pytest.MonkeyPatch, told: dict[int, Phase], *stacks: tuple[int, ...]) -> list[Attributed]:
    """Return samples with these addresses and stack words, attributed to phases."""

    class Told:
        def __init__(self, space: Space) -> None:
            pass

        def phases(self, addresses: Iterable[int]) -> dict[int, Phase]:
            return told

    monkeypatch.setattr(attribution, "Instructions", Told)
    samples = [
        Sample(place, MAIN, address, 0, 1, np.array(words, np.uint64).tobytes())
        for place, (address, *words) in enumerate(stacks)
    ]
    rules = rules_from({r"^lib\.so!\+0x2": ("", "qk", "pv")}, "mine")
    space: Any = Space()
    return Attribution(space, rules, LineClock(frozenset())).attribute(samples)


def test_products_are_told_by_the_live_call_site_and_not_by_stale_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sampled(monkeypatch, {}, (0x1100, 0x2300, 0x2100), (0x1100, 0x2300, 0x2200), (0x1100, 0x2100))
    assert [one.phase for one in found] == [Phase.QK, Phase.PV, Phase.QK]


def test_an_empty_name_leaves_a_function_to_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = sampled(monkeypatch, {0x2100: Phase.EXP}, (0x2100,))
    assert found.phase is Phase.EXP


def test_who_calls_a_pause_is_spinning_and_so_is_what_it_calls_unless_it_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {0x5100: Phase.WAITING, 0x4200: Phase.COPIES, 0x7100: Phase.EXP}
    pauses = [(0x5100, 0x4100)] * 5
    others = [(0x4200, 0x8100), (0x6100, 0x4100), (0x7100, 0x4100), (0x6100, 0x8100)]
    found = sampled(monkeypatch, told, *pauses, *others)[5:]
    assert [one.phase for one in found] == [Phase.WAITING, Phase.WAITING, Phase.EXP, Phase.OTHER]
