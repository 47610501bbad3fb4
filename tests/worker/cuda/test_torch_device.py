"""The real device class with stand-ins for torch and NVML: units and differences."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from attnbench.worker.cuda.device import Condition
from attnbench.worker.cuda.torch_device import TorchDevice, named_reasons

GIB = 2**30


class FakeNVML(types.ModuleType):
    """A library with one card that heat holds at 1410 of 1980 MHz."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818 - NVIDIA's name
        pass

    NVML_CLOCK_SM = 1
    open = 0
    lost = False

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:  # noqa: N802
        return {(0, 1): 1980}[handle, clock]

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:  # noqa: N802
        if self.lost:
            raise self.NVMLError("GPU is lost")
        return {(0, 1): 1410}[handle, clock]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:  # noqa: N802
        return 0x20 | 0x1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeNVML:
    fake = FakeNVML("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch, library: FakeNVML) -> list[int]:
    """Return the list of durations, in cycles, for which torch was asked to block the device."""
    asked: list[int] = []
    for name, value in {
        "current_device": lambda: 0,
        "get_device_properties": lambda index: types.SimpleNamespace(L2_cache_size=50 * 2**20),
        "_sleep": asked.append,
        "mem_get_info": lambda: (60 * GIB, 80 * GIB),
        "memory_allocated": lambda: 3 * GIB,
        "memory_reserved": lambda: 5 * GIB,
        "max_memory_allocated": lambda: 7 * GIB,
        "max_memory_reserved": lambda: 9 * GIB,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return asked


def test_holding_up_is_asked_for_in_cycles_of_the_highest_clock(cycles: list[int]) -> None:
    TorchDevice().block(100_000.0)
    assert cycles == [198_000], "100 us at 1980 MHz; at a lower clock it only lasts longer"


def test_twice_the_cache_is_written(cycles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, str]] = []

    def empty(size: int, *, dtype: Any, device: str) -> Any:
        made.append((size * dtype.itemsize, device))
        return types.SimpleNamespace(zero_=lambda: made.append((0, "written")))

    monkeypatch.setattr(torch, "empty", empty)
    device = TorchDevice()
    device.flush_l2()
    device.flush_l2()
    assert made == [(100 * 2**20, "cuda"), (0, "written"), (0, "written")]


def test_memory_is_the_allocators_and_the_whole_devices(cycles: list[int]) -> None:
    state = TorchDevice().memory()
    assert (state.allocated, state.reserved, state.used) == (3 * GIB, 5 * GIB, 20 * GIB)
    assert (state.peak_allocated, state.peak_reserved) == (7 * GIB, 9 * GIB)


def test_what_the_allocator_holds_back_is_free(cycles: list[int]) -> None:
    assert TorchDevice().free_bytes() == 62 * GIB


def test_clock_and_causes_are_nvmls_in_its_words(cycles: list[int], library: FakeNVML) -> None:
    device = TorchDevice()
    assert device.condition() == Condition(1410, ("sw_thermal",))
    assert library.open == 1, "it stays open for the next sample"
    library.lost = True
    assert device.condition() == Condition(None, ())


def test_without_nvml_there_is_no_clock_and_holding_up_guesses(
    cycles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = TorchDevice()
    assert (device.condition(), device.highest_sm_clock_mhz()) == (Condition(None, ()), None)
    device.block(1_000.0)
    assert cycles == [2_000]


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x1, ()),  # idle
        (0x2, ()),  # the user's own setting
        (0x4, ("sw_power_cap",)),
        (0x8 | 0x40, ("hw_slowdown", "hw_thermal")),
        (0x80, ("hw_power_brake",)),
    ],
)
def test_reasons_that_hold_a_clock_down_by_name(bits: int, names: tuple[str, ...]) -> None:
    assert named_reasons(bits) == names
