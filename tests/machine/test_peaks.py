"""Measured peaks: how they are found, in a separate process. No time is asserted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.pace import peaks as peaks_module
from attnbench.machine.pace.peaks import Peaks, copy_bytes, find_peaks, higher_of, measure_peaks, size_for
from attnbench.machine.pace.stopwatch import fastest_on_device

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

MIB, GIB = 2**20, 2**30


@pytest.fixture(scope="module")
def quick() -> Peaks:
    return measure_peaks("cpu", 1, quick=True)


def test_the_cpus_peaks_are_measured_in_a_process_of_their_own(quick: Peaks) -> None:
    assert quick["failed"] is None
    assert (quick["device"], quick["threads"]) == ("cpu", 1)
    assert quick["tflops"].keys() | quick["not_measured"].keys() == {"float64", "float32", "bfloat16", "float16"}
    assert "float32" in quick["tflops"]
    assert quick["method"]
    assert quick["disturbance"].keys() >= {"involuntary_switches", "steal_share", "load_before"}
    assert json.loads(json.dumps(quick, allow_nan=False)) == quick


def test_rates_are_in_tflops_and_gbytes_per_s_not_in_other_powers_of_ten(quick: Peaks) -> None:
    # No core of this century multiplies slower than 0.1 GFLOP/s or faster than 100 TFLOP/s.
    assert all(1e-4 < rate < 100 for rate in quick["tflops"].values())
    assert quick["gbytes_per_s"] is not None
    assert 0.05 < quick["gbytes_per_s"] < 10_000


def test_peaks_of_a_device_that_is_not_here_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "device_unavailable", lambda name: f"no {name}")
    found = measure_peaks("cuda", 1, quick=True)
    assert (found["failed"], found["tflops"], found["gbytes_per_s"]) == ("no cuda", {}, None)


def test_a_probe_that_fails_leaves_its_sentence_and_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "ask_probe", lambda *_: {"failed": "the probe was killed"})
    found = measure_peaks("cpu", 1, quick=True)
    assert (found["failed"], found["tflops"], found["method"]) == ("the probe was killed", {}, None)


def cubic(gflops: float) -> Callable[[int], float]:
    """Return a function of the time in ns of a product by its size, at a constant rate."""
    return lambda size: 2 * size**3 / gflops


@pytest.mark.parametrize("gflops", [0.5, 20.0, 300.0, 5_000.0, 60_000.0])
def test_a_product_is_as_long_as_wanted_and_not_much_longer(gflops: float) -> None:
    time_of = cubic(gflops)
    size = size_for(25e6, time_of, 16384)
    assert time_of(size) >= 25e6
    assert size == 128 or time_of(size) < 100e6


def test_no_product_on_the_way_is_much_longer_than_the_last_one_needs_to_be() -> None:
    asked: list[float] = []

    def time_of(size: int) -> float:
        # Small products run at a tenth of the rate: the extrapolation from them must not overshoot.
        asked.append(cubic(100.0)(size) * (10 if size < 512 else 1))
        return asked[-1]

    size_for(25e6, time_of, 8192)
    assert max(asked) < 100e6
    assert len(asked) < 10


def test_a_fast_device_stops_at_the_largest_size() -> None:
    assert size_for(25e6, cubic(1e9), 4096) == 4096


@pytest.mark.parametrize(
    ("cache", "available", "expected"),
    [
        (None, 64 * GIB, 256 * MIB),
        (32 * MIB, 64 * GIB, 256 * MIB),
        (200 * MIB, 64 * GIB, 400 * MIB),
        (2 * GIB, 64 * GIB, GIB),
        (200 * MIB, GIB, 128 * MIB),
        (200 * MIB, 100, MIB),
    ],
)
def test_the_copied_buffer_exceeds_the_caches_and_leaves_memory_to_others(
    cache: int | None, available: int, expected: int
) -> None:
    assert copy_bytes(cache, available, GIB) == expected


def test_rates_are_work_over_time_and_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[Any, str] = {}
    sizing = iter([1e9])  # the first size takes long enough
    rounds = iter([4e6, 9e6, 2e6, 3e6, 1e6, 1e6, 2e6, 3e6, 4e6])

    def product(device: str, dtype: str, size: int) -> Callable[[], object]:
        if dtype != "float32":
            raise RuntimeError(f"not implemented for {dtype}\nand a long trace")
        made[call := lambda: size] = "product"
        return call

    def copy(device: str, size: int) -> Callable[[], object]:
        made[call := lambda: size] = "copy"
        return call

    def fastest(call: Callable[[], object], device: str, repeats: int) -> float:
        return next(sizing, None) or next(rounds)

    monkeypatch.setattr(peaks_module, "_product", product)
    monkeypatch.setattr(peaks_module, "_numpys_product", lambda dtype, size: lambda: size)
    monkeypatch.setattr(peaks_module, "_copy", copy)
    monkeypatch.setattr(peaks_module, "fastest_ns", fastest)
    monkeypatch.setattr(peaks_module, "available_bytes", lambda: 64 * GIB)
    monkeypatch.setattr(peaks_module, "last_level_cache_bytes", lambda: 32 * MIB)
    found = find_peaks("cpu", quick=True)
    # Each round: torch's product, NumPy's, a copy.
    assert found["tflops"] == {"float32": pytest.approx(2 * 128**3 / 1e-3 / 1e12)}
    assert found["gbytes_per_s"] == pytest.approx(2 * 256 * MIB / 1e-3 / 1e9)
    assert found["not_measured"]["float16"] == "torch says: not implemented for float16"


def test_of_peaks_that_were_measured_twice_the_higher_rates_count() -> None:
    one = {"failed": None, "tflops": {"float32": 2.0, "float64": 1.0}, "gbytes_per_s": None, "read_gbytes_per_s": 5.0}
    other = {"failed": None, "tflops": {"float32": 3.0, "bfloat16": 4.0}, "gbytes_per_s": 7.0}
    assert higher_of(one, other) == {
        "failed": None,
        "tflops": {"float32": 3.0, "float64": 1.0, "bfloat16": 4.0},
        "gbytes_per_s": 7.0,
        "read_gbytes_per_s": 5.0,
    }


class FakeCUDA:
    """A device with its own clock, on which the first call takes a second and others the given milliseconds."""

    def __init__(self, milliseconds: list[float]) -> None:
        self.milliseconds, self.now, self.synchronised = milliseconds, 0.0, 0

    def call(self) -> None:
        warm = self.synchronised > 0
        self.now += self.milliseconds.pop(0) if warm else 1000.0

    def synchronize(self) -> None:
        self.synchronised += 1

    def Event(self, *, enable_timing: bool) -> FakeEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, device: FakeCUDA) -> None:
        self.device, self.at, self.recorded = device, 0.0, 0

    def record(self) -> None:
        self.at, self.recorded = self.device.now, self.device.synchronised

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.device.synchronised > end.recorded, "read before the device had finished"
        return end.at - self.at


def test_on_a_gpu_the_fastest_call_counts_between_events_in_nanoseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 10, 60_000_000])  # one call warms up, and the GPU was busy for 60 ms
    monkeypatch.setattr("attnbench.machine.pace.stopwatch.perf_counter_ns", lambda: next(clock))
    device = FakeCUDA([5.0, 2.0, 3.0])
    assert fastest_on_device(device.call, 3, device) == 2.0 * 1e6
