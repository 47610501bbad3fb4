"""Which devices this machine has, asked without importing torch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that implementations can run on."""

    name: str
    """``cpu`` or ``cuda:0``, ``cuda:1``, ..."""
    description: str


def devices() -> list[Device]:
    """All devices of this machine, the CPU first."""
    from attnbench.machine.cpu import cpu_model

    found = [Device("cpu", cpu_model())]
    try:
        with nvml() as library:
            for index in range(library.nvmlDeviceGetCount()):
                name = library.nvmlDeviceGetName(library.nvmlDeviceGetHandleByIndex(index))
                found.append(Device(f"cuda:{index}", name.decode() if isinstance(name, bytes) else name))
    except NoGPUError:
        pass  # device_unavailable("cuda") says why
    return found


def device_unavailable(name: str) -> str | None:
    """Why a kind of device (``cpu`` or ``cuda``) is not there, or ``None``."""
    return None if name == "cpu" else _cuda_unavailable()


@functools.cache
def _cuda_unavailable() -> str | None:
    try:
        with nvml() as library:
            if library.nvmlDeviceGetCount() > 0:
                return None
    except NoGPUError as error:
        return f"no CUDA device: {error}"
    return "no CUDA device: NVML knows none"


class NoGPUError(Exception):
    """NVIDIA's management library is not there, or does not answer."""


@contextlib.contextmanager
def nvml() -> Iterator[Any]:
    """NVIDIA's management library, initialised.

    Raises:
        NoGPUError: with its own words.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGPUError(str(error)) from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise NoGPUError(str(error)) from error
    finally:
        pynvml.nvmlShutdown()
