"""Imaginary machines: folders in place of ``/``, and a library in place of NVIDIA's."""

# ruff: noqa: N801, N802, N818 - the stand-in has the names of NVIDIA's library

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.hardware import devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Return a function that makes a folder like a machine's root, from file names and their contents."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "root"

    return make


class FakeNVML(types.ModuleType):
    """A stand-in for NVIDIA's management library on a machine with some GPUs."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *names: str, library: bool = True, refused: tuple[str, ...] = ()) -> None:
        super().__init__("pynvml")
        self.names, self.library, self.refused = names, library, refused
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.library:
            raise self.NVMLError_LibraryNotFound("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return self.names[handle].encode()

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}{handle}{handle}-abc"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return types.SimpleNamespace(total=80 * 2**30, used=3 * 2**30)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        return {self.NVML_CLOCK_SM: 345, self.NVML_CLOCK_MEM: 2619}[clock]

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[clock]

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:
        if "power" in self.refused:
            raise self.NVMLError("Not Supported")
        return 700_000

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 31

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[object]:
        return [object()]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeNVML]]:
    """Return a function that replaces NVIDIA's library by one with the named GPUs, with a torch that has CUDA."""

    def put(*names: str, torch: str = "2.13.0", **how: Any) -> FakeNVML:
        fake = FakeNVML(*names, **how)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        monkeypatch.setattr(devices, "version_of", lambda name: torch if name == "torch" else None)
        devices._cuda_unavailable.cache_clear()
        return fake

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield put
    devices._cuda_unavailable.cache_clear()
