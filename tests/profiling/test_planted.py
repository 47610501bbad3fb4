"""Planted work shows in profiles: shares of work, a sleep, an allocation."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attnbench.profiling.phases import Phase
from attnbench.transport.executor import ExecutorError

if TYPE_CHECKING:
    from attnbench.stages.profile import Profiled
    from tests.profiling.conftest import Take

POINTS = 0.03


def require_seven_of_ten(found: Profiled, one: Phase, other: Phase) -> None:
    """Require that ``one`` is 70 % of both, within three points, or more if few samples were taken."""
    both = found.by_phase[one] + found.by_phase[other]
    assert found.by_phase[one] / both == pytest.approx(0.7, abs=max(POINTS, 3 * (0.7 * 0.3 / both) ** 0.5))


@pytest.mark.parametrize("threads", [1, 2])
def test_one_function_is_told_apart_by_the_lines_that_call_it(take: Take, threads: int) -> None:
    found = take("planted/calls", threads)
    require_seven_of_ten(found, Phase.QK, Phase.PV)
    assert found.by_phase[Phase.QK] + found.by_phase[Phase.PV] > 0.8 * found.samples


@pytest.mark.parametrize("name", ["planted/loops", "planted/locked"])
def test_loops_of_one_function_are_told_apart_by_their_lines(take: Take, name: str) -> None:
    found = take(name, 1)
    if found.lost and os.geteuid() != 0:
        pytest.skip("without privileges the system gives room for few samples")
    assert found.lost <= 0.01 * found.samples
    require_seven_of_ten(found, Phase.SOFTMAX, Phase.EXP)


@pytest.mark.parametrize("name", ["planted/python", "planted/helper"])
def test_compiled_libraries_are_told_apart_by_the_line_of_python_that_runs(take: Take, name: str) -> None:
    found = take(name, 1)
    require_seven_of_ten(found, Phase.QK, Phase.PV)


def test_threads_that_python_starts_have_lines_of_their_own(take: Take) -> None:
    """Samples are not on the line that waits; their number depends on when the sampler finds a thread."""
    found = take("planted/threads", 1)
    assert found.by_phase[Phase.QK] > found.by_phase[Phase.PV] > 0
    assert found.by_phase[Phase.QK] + found.by_phase[Phase.PV] > 0.8 * found.samples


def test_an_expression_that_takes_too_long_is_a_sentence_and_no_hang(take: Take) -> None:
    with pytest.raises(ExecutorError, match=r"to look for it in .* takes too long"):
        take("planted/endless", 1)


def test_a_line_has_its_own_time_and_that_of_what_it_calls(take: Take) -> None:
    found = take("planted/loops", 1)
    inside = max(found.lines, key=lambda line: line.ns)
    assert "numbers" in inside.text
    assert inside.phase is Phase.SOFTMAX
    (call,) = (line for line in found.lines if "two_loops(np.ones" in line.text)
    assert call.below_ns > inside.ns
    assert call.ns < inside.ns


def test_the_hottest_instructions_are_multiply_adds_or_their_parts(take: Take) -> None:
    found = take("planted/loops", 1)
    by_name: collections.defaultdict[str, float] = collections.defaultdict(float)
    for one in found.instructions:
        by_name[one.text.split()[0] if one.text else ""] += one.ns
    hottest = " ".join(sorted(by_name, key=lambda name: -by_name[name])[:5])
    assert any(word in hottest for word in ("mul", "fma", "fmadd"))


def test_sleep_is_waiting(take: Take) -> None:
    found = take("planted/sleep", 1)
    assert found.waiting_ns + found.kept_waiting_ns > 0.9 * found.mean_ns


def test_phases_add_up_to_the_calls(take: Take) -> None:
    found = take("planted/loops", 1)
    seen = sum(found.by_phase.values()) * found.sample_ns + found.waiting_ns + found.system_ns
    assert seen + found.kept_waiting_ns == pytest.approx(found.mean_ns, rel=0.01)


def test_an_allocation_is_on_the_line_that_makes_it(take: Take) -> None:
    found = take("planted/memory", 1)
    assert found.memory is not None
    assert found.memory.peak_bytes == pytest.approx(2**25, abs=2**18)
    top = max(found.memory.points, key=lambda point: point.bytes)
    file, _, line = top.line.rpartition(":")
    assert "2**23" in Path(file).read_text("utf-8").splitlines()[int(line) - 1]
    assert found.memory.points[-1].bytes < 2**20


def test_the_time_line_has_what_the_harness_did_and_what_ran_in_the_traced_calls(take: Take) -> None:
    found = take("planted/python", 1)
    calls = [span for span in found.timeline if span.lane == "calls"]
    assert [span.name for span in calls[:2]] == ["call 1", "call 2"]
    (traced,) = [span for span in found.timeline if span.name == "traced calls"]
    inside = [span for span in found.timeline if span.lane != "harness"]
    assert all(traced.start_ns <= span.start_ns <= span.end_ns <= traced.end_ns for span in inside)
    assert {span.lane for span in inside} >= {"calls", "lines of Python", "main thread"}
    assert found.no_operators == "no operators: they are torch's, and this implementation is numpy's"


def test_what_a_call_holds_at_its_peak_has_its_size_and_stack(take: Take) -> None:
    pytest.importorskip("memray")
    found = take("planted/memory", 1)
    assert found.memory is not None
    assert found.memory.blocks is not None
    largest = found.memory.blocks.largest[0]
    assert largest.bytes == pytest.approx(2**25, rel=1e-3)
    file, _, line = largest.stack[-1].partition(" ")[2].rpartition(":")
    assert "2**23" in Path(file).read_text("utf-8").splitlines()[int(line) - 1]
