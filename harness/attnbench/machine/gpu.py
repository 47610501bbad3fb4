"""The GPUs that NVIDIA's management library knows of."""

from __future__ import annotations

from typing import Any

from attnbench.machine.devices import NoGPUError, nvml


def gpus() -> list[dict[str, Any]]:
    """Name, memory, driver, clocks and power limit of each GPU; empty without one."""
    try:
        with nvml() as library:
            driver = _text(library.nvmlSystemGetDriverVersion())
            return [_describe(library, index, driver) for index in range(library.nvmlDeviceGetCount())]
    except NoGPUError:
        return []


def _describe(library: Any, index: int, driver: str) -> dict[str, Any]:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    return {
        "index": index,
        "name": _text(library.nvmlDeviceGetName(handle)),
        "driver": driver,
        "memory_total_bytes": int(library.nvmlDeviceGetMemoryInfo(handle).total),
        "sm_clock_mhz": _or_none(library, library.nvmlDeviceGetClockInfo, handle, 1),
        "sm_clock_max_mhz": _or_none(library, library.nvmlDeviceGetMaxClockInfo, handle, 1),
        "memory_clock_mhz": _or_none(library, library.nvmlDeviceGetClockInfo, handle, 2),
        "power_limit_w": _watts(_or_none(library, library.nvmlDeviceGetPowerManagementLimit, handle)),
    }


def _or_none(library: Any, ask: Any, *arguments: Any) -> int | None:
    """Cards differ in what they tell."""
    try:
        return int(ask(*arguments))
    except library.NVMLError:
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
