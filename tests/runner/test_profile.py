"""A worker's samples are scaled to the times of the run that was measured without a sampler."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench import flops, make_case
from attnbench.profiling.parts import BlocksAtPeak, FunctionTime, LineTime, MemoryOfCall, Span
from attnbench.profiling.phases import Phase
from attnbench.profiling.recording import Marker
from attnbench.runner.floors import floors
from attnbench.runner.profile import completed, on_one_time_line, vendors_tools
from attnbench.stages.profile import Profiled

CASE = make_case(seqlen_q=64, heads_q=2, head_dim=32, head_dim_v=16, mask="causal")
ABOUT: dict[str, Any] = {
    "implementation": "mine/one", "case": CASE.to_dict(), "case_id": CASE.case_id, "label": CASE.label(),
    "device": "cpu", "threads": 2, "status": "ok", "median_ns": 1000.0, "low_ns": 900.0, "high_ns": 1100.0,
}  # fmt: skip
TAKEN = Profiled(
    plain_ns=1000, sampled_ns=1100, mean_ns=2000, calls=7, samples=100, period_ns=500,
    by_phase={Phase.QK: 60, Phase.PV: 30, Phase.MEMORY: 10}, sample_ns=15, waiting_ns=400, system_ns=100,
    functions=(FunctionTime(module="m", function="f", phase=Phase.QK, why="line", ns=200),),
    lines=(LineTime(file="f.py", line=1, function="f", text="x", phase=Phase.QK, ns=200, below_ns=600),),
)  # fmt: skip


def test_phases_add_up_to_the_median_of_the_run() -> None:
    found = completed(ABOUT, TAKEN, {}, None)
    assert sum(one.ns for one in found.phases) == pytest.approx(1000)
    assert {one.phase: one.ns for one in found.phases} == pytest.approx(
        {Phase.QK: 450, Phase.PV: 225, Phase.WAITING: 200, Phase.MEMORY: 125}
    )
    assert [one.phase for one in found.phases] == [Phase.QK, Phase.PV, Phase.WAITING, Phase.MEMORY]


def test_lines_and_functions_are_scaled_alike() -> None:
    found = completed(ABOUT, TAKEN, {}, None)
    assert (found.functions[0].ns, found.lines[0].ns, found.lines[0].below_ns) == (100, 100, 300)


def test_intervals_follow_from_the_number_of_samples() -> None:
    """Wilson's interval for 60 of 100 is 50.2 to 69.1 %."""
    found = completed(ABOUT, TAKEN, {}, None)
    first = found.phases[0]
    assert (first.low_ns, first.high_ns) == pytest.approx((376.5, 518.0), rel=2e-3)
    waiting = next(one for one in found.phases if one.phase is Phase.WAITING)
    assert waiting.low_ns == pytest.approx(waiting.ns)  # waiting is measured by clocks


def test_the_slow_down_is_that_of_the_sampler_alone() -> None:
    assert completed(ABOUT, TAKEN, {}, None).slowdown == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"has_kernel": False}, "its own code only"),
        ({"by_phase": {Phase.PRODUCTS: 100}}, "nothing tells which matrix product"),
        (
            {"kept_waiting_ns": 200},
            "other processes kept its threads from running for 10% of the time, which is in no phase",
        ),
        ({"plain_ns": 1500}, "1.50 times as long as in the run"),
        ({"not_installed": ("pyelftools",)}, "without pyelftools lines of compiled code are missing"),
        ({"no_memory": "no mark"}, "memory was not followed: no mark"),
        ({"samples": 0, "by_phase": {}}, "no sample fell into a call"),
    ],
)
def test_what_limits_a_profile_is_said(changed: dict[str, Any], said: str) -> None:
    plain = completed(ABOUT, TAKEN, {}, None)
    assert not any(said in note for note in plain.notes)
    found = completed(ABOUT, TAKEN.model_copy(update=changed), {}, None)
    assert any(said in note for note in found.notes)


def test_a_memory_line_that_disagrees_with_the_runs_peak_says_so() -> None:
    memory = MemoryOfCall(method="m", points=(), peak_bytes=2**20, exact_peak_bytes=None)
    taken = TAKEN.model_copy(update={"memory": memory})
    same = completed(ABOUT, taken, {}, 2**20 + 4096).memory
    other = completed(ABOUT, taken, {}, 2**21).memory
    assert same is not None
    assert other is not None
    assert (same.exact_peak_bytes, same.note) == (2**20 + 4096, None)
    assert "2,097,152" in (other.note or "")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (2**20 + 100, "the blocks and the exact peak agree within 100 bytes"),
        (2**21, "1,048,576 bytes more than the exact peak: pages that nobody wrote to"),
        (0, "1,048,576 bytes less than the exact peak: memory that comes from no allocator of the C library"),
    ],
)
def test_blocks_stand_beside_the_exact_peak(asked: int, said: str) -> None:
    blocks = BlocksAtPeak(bytes=asked, largest=())
    memory = MemoryOfCall(method="m", points=(), peak_bytes=2**20, exact_peak_bytes=None, blocks=blocks)
    found = completed(ABOUT, TAKEN.model_copy(update={"memory": memory}), {}, 2**20).memory
    assert found is not None
    assert said in (found.blocks_note or "")


def test_the_time_line_of_the_worker_lies_behind_the_stages() -> None:
    span = Span(lane="calls", name="call 1", start_ns=5, end_ns=7)
    memory = MemoryOfCall(method="m", points=(), peak_bytes=1, exact_peak_bytes=1, began_ns=9)
    cell = completed(ABOUT, TAKEN.model_copy(update={"timeline": (span,), "memory": memory}), {}, 1)
    found = on_one_time_line(cell, 1000, [Marker("load", 50, 60), Marker("profile", 70, 90)], 50)
    assert [(one.name, one.start_ns, one.end_ns) for one in found.timeline] == [
        ("load", 0, 10), ("profile", 20, 40), ("call 1", 1005, 1007),
    ]  # fmt: skip
    assert found.memory is not None
    assert found.memory.began_ns == 1009


def test_on_a_gpu_the_lines_for_its_vendors_tools_are_told() -> None:
    said = vendors_tools("attnbench run -i '^mine/one$' -d cuda -a seqlen_q=64")
    assert "--launch-count 2 --set full attnbench check -i '^mine/one$' -d cuda -a seqlen_q=64; " in said
    assert said.endswith("nsys profile --trace cuda,nvtx,osrt attnbench check -i '^mine/one$' -d cuda -a seqlen_q=64")
    assert "untested" in said


def test_floors_are_operations_at_the_measured_peak() -> None:
    found = floors(CASE, {"float32": 0.001}, 2.0)
    assert found[Phase.PRODUCTS].ns == pytest.approx(flops(CASE))  # a flop a nanosecond
    assert found[Phase.QK].ns == pytest.approx(2 * found[Phase.PV].ns)  # 32 and 16 features
    assert found[Phase.EXP].ns == pytest.approx(2 * 64 * 65 / 2 / 2.0)
    assert Phase.GRADIENTS not in found
    assert floors(CASE, {}, None) == {}


@pytest.mark.parametrize("mode", ["backward", "forward_backward"])
def test_floors_of_a_backward_pass_add_up_to_its_operations(mode: str) -> None:
    case = make_case(seqlen_q=64, heads_q=2, head_dim=32, mode=mode)
    found = floors(case, {"float32": 0.001}, None)
    parts = [found[phase].ns for phase in (Phase.QK, Phase.PV, Phase.GRADIENTS) if phase in found]
    scores_again = found[Phase.QK].ns if mode == "forward_backward" else 0
    assert sum(parts) + scores_again == pytest.approx(flops(case))
