"""The GPUs that NVML knows."""

from __future__ import annotations

from typing import Any

from attnbench.machine.hardware.devices import NoGPUError, nvml, text_of, visible_gpus


def gpus() -> list[dict[str, object]]:
    """Describe each GPU that CUDA can see, JSON-ready; facts that a card does not report are ``None``.

    ``processes`` counts the processes that compute on it, of any user.
    """
    try:
        with nvml() as library:
            driver = text_of(library.nvmlSystemGetDriverVersion())
            return [_describe(library, index, handle, driver) for index, handle in enumerate(visible_gpus(library))]
    except NoGPUError:
        return []  # device_unavailable("cuda") says why


def _describe(library: Any, index: int, handle: Any, driver: str) -> dict[str, object]:
    def ask(question: str, *arguments: Any) -> Any | None:
        """Query NVML; ``None`` if the card does not support the query."""
        try:
            return getattr(library, question)(handle, *arguments)
        except library.NVMLError:
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    capability = ask("nvmlDeviceGetCudaComputeCapability")
    power_limit = ask("nvmlDeviceGetPowerManagementLimit")
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    return {
        "index": index,
        "name": text_of(library.nvmlDeviceGetName(handle)),
        "driver": driver,
        "compute_capability": None if capability is None else "{}.{}".format(*capability),
        "memory_total_bytes": None if memory is None else int(memory.total),
        "memory_used_bytes": None if memory is None else int(memory.used),
        "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_SM),
        "sm_clock_max_mhz": ask("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_SM),
        "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_MEM),
        "power_limit_w": None if power_limit is None else power_limit / 1000,
        "temperature_c": ask("nvmlDeviceGetTemperature", library.NVML_TEMPERATURE_GPU),
        "processes": None if processes is None else len(processes),
    }
