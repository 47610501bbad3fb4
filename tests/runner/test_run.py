"""Parts of a run other than stages: before a rate counts as impossible, peaks are measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnbench import make_case
from attnbench.machine.pace.heartbeat import heartbeats_of
from attnbench.machine.pace.remembered_peaks import remember, remembered_peaks
from attnbench.runner.planning.request import Request, setting_of
from attnbench.runner.run import Run, Setting
from attnbench.runner.time_accounting import Shares
from attnbench.sweep.model import Scenario
from tests.runner.scripted import limits

CASE = make_case(heads_q=1, seqlen_q=1000, head_dim=50)  # 2e8 operations
CELL: Any = SimpleNamespace(case=CASE, device="cpu")


PEAKS: dict[str, Any] = {
    "device": "cpu", "threads": 2, "failed": None, "tflops": {"float32": 1.0}, "not_measured": {},
    "gbytes_per_s": 10.0, "read_gbytes_per_s": None, "method": "products", "disturbance": {},
}  # fmt: skip


class Host:
    """A host whose successive measurements give these peaks."""

    def __init__(self, *tflops: float) -> None:
        self.left = list(tflops)

    def peaks(self, device: str, threads: int, *, quick: bool) -> dict[str, Any]:
        assert (device, threads, quick) == ("cpu", 2, True)
        return {**PEAKS, "tflops": {"float32": self.left.pop(0)}}


def completed(
    host: Any,
    tflops: float,
    status: str = "ok",
    machine_key: str | None = None,
    peaks: Mapping[str, Any] = PEAKS,
) -> dict[str, Any]:
    setting = Setting(
        run_id="r", threads=2, environment={}, limits=limits(), peaks={"cpu": peaks}, host=host, machine_key=machine_key
    )
    writer: Any = None
    values = {"status": status, "time_samples_ns": [2e8 / tflops / 1e3] * 10}
    return Run(setting, writer, Shares())._completed(values, CELL)


def test_a_possible_rate_is_believed_at_once() -> None:
    assert completed(Host(), 1.25)["peak_tflops"] == 1.0


@pytest.mark.parametrize(("again", "peak"), [(2.0, 2.0), (0.9, 1.0)])
def test_before_a_rate_surprises_the_peak_is_measured_once_more(again: float, peak: float) -> None:
    found = completed(Host(again), 2.4)
    assert (found["status"], found["peak_tflops"]) == ("ok", peak)


def test_a_machine_that_was_slower_then_is_not_held_against_the_cell() -> None:
    found = completed(Host(0.9, 1.5), 3.0)
    assert (found["status"], found["peak_tflops"], found["percent_of_peak"]) == ("ok", 1.5, pytest.approx(200))


def test_what_it_showed_then_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    completed(Host(1.5), 3.0, machine_key="v1-a")
    found = remembered_peaks("v1-a", "cpu", 2, quick=True)
    assert found is not None
    assert found["tflops"] == {"float32": 1.5}


def test_what_was_remembered_and_is_higher_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    remember("v1-a", {**PEAKS, "gbytes_per_s": 12.0}, quick=True)
    completed(Host(1.5), 3.0, machine_key="v1-a")
    found = remembered_peaks("v1-a", "cpu", 2, quick=True)
    assert found == {**PEAKS, "tflops": {"float32": 1.5}, "gbytes_per_s": 12.0}


@pytest.mark.parametrize(
    "strange",
    [
        {"tflops": {"float32": 1.0}, "gbytes_per_s": 10.0},
        {**PEAKS, "device": "/../../../elsewhere", "threads": "/../x"},
        {**PEAKS, "tflops": {"float32": 1.0, "float64": 1e30}},
    ],
)
def test_what_a_run_file_says_of_peaks_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, strange: dict[str, Any]
) -> None:
    """A resumed run takes them from its file."""
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
    assert completed(Host(1.5), 3.0, machine_key="v1-a", peaks=strange)["status"] == "ok"
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) == {**PEAKS, "tflops": {"float32": 1.5}}
    kept = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert kept == [Path("cache/peaks/v1-a-cpu-2-quick.json")]


def test_heartbeats_are_kept_under_the_key_of_the_header_and_the_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    request = Request(
        scenario=Scenario(name="imagined"), overrides={}, include=(), exclude=(), plugins=(), devices=("cpu",),
        threads=2, replicates=1, seed=0, cache="warm", stages=("time",),
    )  # fmt: skip
    writer: Any = None
    run = Run(setting_of(request, {"run_id": "r", "peaks": {}, "machine_key": "v1-a"}), writer, Shares())
    run.heartbeats.add(1000.0)
    run.heartbeats.keep()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [heartbeats_of("v1-a", 2)]


def test_after_three_times_the_rate_counts_as_impossible() -> None:
    host = Host(1.0, 1.1, 1.0, 9.0)
    found = completed(host, 3.0)
    assert (found["status"], found["stage"], host.left) == ("invalid", "time", [9.0])
