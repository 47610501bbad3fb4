"""Imagined profiles, whose phases add up to known medians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnbench.profiling.parts import (
    BlocksAtPeak,
    FunctionTime,
    InstructionTime,
    LineTime,
    MemoryBlock,
    MemoryOfCall,
    MemoryPoint,
    Span,
    Stack,
)
from attnbench.profiling.phases import Phase
from attnbench.store.profile import CellProfile, PhaseTime, Profile, write_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FLASH = {Phase.PV: 4.1e6, Phase.QK: 3.9e6, Phase.EXP: 1.2e6, Phase.SOFTMAX: 0.5e6, Phase.OTHER: 0.3e6}
SDPA = {
    Phase.QK: 3.7e6,
    Phase.EXP: 2.5e6,
    Phase.PV: 3.6e6,
    Phase.COPIES: 1.4e6,
    Phase.WAITING: 1.0e6,
    Phase.OTHER: 0.2e6,
}
FLOORS = {Phase.QK: 2.1e6, Phase.PV: 2.1e6, Phase.EXP: 0.9e6}
LONG_NAME = "compiled!implementations.numba_flash.softmax._weigh.numbers_of_a_tile_of_scores"
SOURCE = ("def flash(q, k, v):", "    for block in blocks:", "\tscores = q @ k.T", "\tout += p @ v")


def phase_times(times: Mapping[Phase, float]) -> tuple[PhaseTime, ...]:
    """Return times of phases, longest first, with floors for products and exponentials."""
    return tuple(
        PhaseTime(
            phase=phase,
            ns=ns,
            low_ns=0.95 * ns,
            high_ns=1.05 * ns,
            floor_ns=FLOORS.get(phase),
            floor_from="products at 230 Gflop/s, this machine's peak" if phase in FLOORS else None,
        )
        for phase, ns in sorted(times.items(), key=lambda item: -item[1])
    )


def cell(name: str, times: Mapping[Phase, float], **given: Any) -> CellProfile:
    """Return a cell whose phases add up to its median, with every kind of content."""
    whole = sum(times.values()) or 1e6
    lines = [
        LineTime(
            file="/kernels/flash.py", line=line, function="flash", text=text, phase=phase, ns=part * whole,
            below_ns=below * whole,
        )
        for line, text, phase, part, below in zip(
            (10, 11, 12, 14), SOURCE, (Phase.OTHER, Phase.SOFTMAX, Phase.QK, Phase.PV), (0.0, 0.1, 0.4, 0.5),
            (1.0, 1.0, 0.4, 0.5), strict=True,
        )
    ]  # fmt: skip
    stacks = [
        Stack(thread=thread, phase=phase, frames=("call.py:3", f"kernel flash.py:{10 + i}", "inner"), ns=ns / 2)
        for i, (phase, ns) in enumerate(times.items())
        for thread in ("main thread", "other threads")
    ]
    fields: dict[str, Any] = {
        "implementation": name,
        "case": {"seqlen_q": 1024, "dtype": "float32", "mask": "causal", "scale": None},
        "case_id": "f00d",
        "label": "seqlen 1k, 8 heads, float32, causal",
        "device": "cpu",
        "threads": 2,
        "status": "ok",
        "median_ns": whole,
        "low_ns": 0.99 * whole,
        "high_ns": 1.01 * whole,
        "slowdown": 1.04,
        "calls": 300,
        "samples": 6012,
        "period_ns": 1_000_000,
        "has_lines": True,
        "phases": phase_times(times),
        "functions": tuple(
            FunctionTime(module="libkernel.so", function=f"{phase}_loop", phase=phase, why="line", ns=ns)
            for phase, ns in times.items()
        ),
        "lines": tuple(sorted(lines, key=lambda one: -one.ns)),
        "instructions": tuple(
            InstructionTime(function=LONG_NAME, line=12, address=hex(0x400 + i), text=f"vmulps zmm{i}", ns=1e-2 * whole)
            for i in range(6)
        ),
        "stacks": tuple(stacks),
        "timeline": (
            Span(lane="stages", name="profile", start_ns=0, end_ns=round(whole)),
            Span(lane="harness", name="traced calls", start_ns=0, end_ns=round(whole)),
            Span(lane="operators", name="aten::bmm", start_ns=2_000_000, end_ns=3_000_000),
            Span(lane="calls", name="call 1", start_ns=0, end_ns=round(whole)),
            Span(lane="lines of Python", name="call.py:3", start_ns=1000, end_ns=round(whole) - 1000),
            Span(lane="main thread", name="qk", start_ns=2_000_000, end_ns=3_000_000),
            Span(lane="main thread", name="pv", start_ns=3_000_000, end_ns=4_000_000),
            Span(lane="thread 41", name="pv", start_ns=1_500_000, end_ns=2_500_000),
        ),
        "memory": MemoryOfCall(
            method="mallinfo2, sampled",
            points=tuple(
                MemoryPoint(at_ns=round(at * whole), bytes=size, line="flash.py:12")
                for at, size in ((0.0, 0), (0.1, 3 << 20), (0.5, 9 << 20), (0.9, 4 << 20), (1.0, 4 << 20))
            ),
            peak_bytes=9 << 20,
            exact_peak_bytes=10 << 20,
            began_ns=1_000_000,
            blocks=BlocksAtPeak(
                bytes=10 << 20, largest=(MemoryBlock(bytes=9 << 20, count=2, stack=("f flash.py:12", "g call.py:3")),)
            ),
            blocks_note="the blocks and the exact peak agree within 0 bytes",
            note="the peak is shorter than the time between two readings",
        ),
    }  # fmt: skip
    return CellProfile(**(fields | given))


def failed(name: str, status: str = "crashed", reason: str = "the worker ended with SIGSEGV") -> CellProfile:
    """Return a cell without a profile."""
    empty: dict[str, Any] = {
        "functions": (),
        "lines": (),
        "instructions": (),
        "stacks": (),
        "timeline": (),
        "memory": None,
    }
    return cell(
        name, {}, status=status, stage="call", reason=reason, median_ns=None, low_ns=None, high_ns=None, slowdown=None,
        calls=0, samples=0, **empty,
    )  # fmt: skip


def profile_of(*cells: CellProfile) -> Profile:
    """Return a profile of these cells."""
    return Profile(
        created_utc="2026-11-27T08:00:00Z",
        attnbench="0.1.0",
        command="attnbench profile -a seqlen=1k -i numba/flash",
        environment={"cpu_model": "Imaginary 9000", "versions": {"torch": "2.13.0"}},
        peaks={"cpu": {"tflops": {"float32": 0.23}}},
        cells=cells,
    )


@pytest.fixture
def two() -> Profile:
    """Return a profile of two implementations of one case, and one that failed."""
    return profile_of(cell("numba/flash", FLASH), cell("torch/sdpa-flash", SDPA), failed("bad/crash"))


@pytest.fixture
def folder(two: Profile, tmp_path: Path) -> Path:
    """Return a folder with the profile."""
    write_profile(two, tmp_path)
    return tmp_path
