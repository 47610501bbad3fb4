"""What the runner makes of a worker's answers where the device is a GPU; worker and oracle are scripts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attnbench import make_case
from attnbench.runner.cell import CellLimits, CellRun

TIMED = {
    "time_samples_ns": [40_000.0] * 10,
    "calls_per_sample": 1,
    "warmup_ns": 1.0,
    "refresh_ns": 1,
    "flip_index": 9,
    "cache_state": "cold",
    "time_method": "CUDA events, L2 flushed, launch queued ahead",
    "unusable": None,
}
ANSWERS: dict[str, dict[str, Any]] = {
    "prepare": {"prepare_ns": 5},
    "call": {"first_call_ns": 7, "later_calls_ns": 1, "deterministic": True, "spread_rel": 0.0, "results": 1},
    "fresh_call": {"fresh_call_ns": 1},
    "dump": {"outputs": {}},
    "identities": {"identities_ns": 1, "found": []},
    "time": TIMED,
    "further_times": {"time_wall_ns": 9.0, "time_graph_ns": None, "graph_refused": "because", "further_ns": 1},
    "memory": {"memory_peak_bytes": 8, "memory_ns": 1},
    "backend": {"backend": "kernels: flash", "time_kernel_ns": 3.0},
    "close": {},
}


class Script:
    """Answers each request as written, and keeps what it was asked."""

    def __init__(self, **changed: dict[str, Any]) -> None:
        self.answers = {**ANSWERS, **changed}
        self.asked: list[str] = []

    def ask(self, request: dict[str, Any], *limits: object) -> dict[str, Any]:
        del limits
        self.asked.append(request["do"])
        return {"status": "ok", **self.answers[request["do"]]}

    def resident_bytes(self) -> int:
        return 0


class Agreeing:
    """An oracle that finds a problem on the inputs of a repetition, or none."""

    def __init__(self, wrong_on: int | None = None) -> None:
        self.wrong_on = wrong_on

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "select":
            return {"status": "ok", "selection": {}}
        problem = "out: wrong" if request["repetition"] == self.wrong_on else None
        return {"status": "ok", "oracle_ns": 1, "fields": {}, "problem": problem, "cause": None}


def fields(worker: Script, device: str = "cuda", *, timed: bool = True, wrong_on: int | None = None) -> dict[str, Any]:
    limits = CellLimits(
        time_s=60,
        memory_bytes=2**30,
        sampling={"sampling_ns": 4_000_000_000},
        cache="warm",
        timed=timed,
        measure_memory=timed,
    )
    oracle: Any = Agreeing(wrong_on)
    scripted: Any = worker
    return CellRun(scripted, oracle, make_case(), device, limits, Path()).run()


def test_a_gpu_has_its_other_times_after_the_timed_output_was_judged() -> None:
    worker = Script()
    found = fields(worker)
    assert worker.asked == [
        *("prepare", "call", "dump", "time", "dump", "further_times", "identities", "memory", "backend", "close")
    ]  # fmt: skip
    assert (found["status"], found["cache_state"], found["time_wall_ns"]) == ("ok", "cold", 9.0)
    assert found["time_method"].startswith("CUDA events")


def test_a_cpu_is_not_asked_for_them() -> None:
    worker = Script()
    fields(worker, "cpu")
    assert "further_times" not in worker.asked


def test_disturbed_samples_make_the_cell_invalid_and_leave_no_time() -> None:
    found = fields(Script(time={**TIMED, "unusable": "3 of 10 samples were disturbed: throttled: sw_thermal"}))
    assert (found["status"], found["stage"]) == ("invalid", "time")
    assert found["reason"] == "3 of 10 samples were disturbed: throttled: sw_thermal"
    assert not [name for name in found if name.startswith(("time_", "memory_"))]


def test_a_wrong_kernel_is_wrong_even_where_its_samples_were_disturbed() -> None:
    found = fields(Script(time={**TIMED, "unusable": "disturbed"}), wrong_on=1)
    assert found["status"] == "wrong"


def test_where_only_agreement_is_asked_for_no_time_is_kept() -> None:
    found = fields(Script(), timed=False)
    assert not [name for name in found if name.startswith("time_")]
    assert found["backend"] == "kernels: flash"
