"""The machine as a run's header describes it. Absent is ``None``."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

from attnbench.machine.ask_probe import ask_probe
from attnbench.machine.hardware.cpu import cpu
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.machine.hardware.gpu import gpus
from attnbench.machine.hardware.memory import memory
from attnbench.machine.software import software

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VERSION = "v1"
_IDENTITY = (
    *("cpu_model", "cpu_architecture", "cpu_family", "cpu_model_number", "cpu_stepping", "cpu_instructions"),
    *("cpu_physical", "cpu_logical", "cpu_hypervisor", "cpu_cache_bytes"),
)
_PASSING = ("cpu_mhz", "load_average", "runnable", "cpu_steal_share", "memory_available_bytes", "swap_used_bytes")
_PASSING_OF_A_GPU = ("memory_used_bytes", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "processes")


def environment() -> dict[str, Any]:
    """The machine and its software, JSON-ready; imports neither torch nor numba."""
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        **software(),
        **cpu(),
        **memory(),
        "gpus": gpus(),
        "cuda_unavailable": device_unavailable("cuda"),
    }


def lasting(here: Mapping[str, Any]) -> dict[str, Any]:
    """The lasting part of what :func:`environment` describes, for comparing two machines."""
    gpus_then = [
        {name: value for name, value in gpu.items() if name not in _PASSING_OF_A_GPU} for gpu in here.get("gpus") or []
    ]
    return {**{name: value for name, value in here.items() if name not in _PASSING}, "gpus": gpus_then}


def libraries(threads: int) -> dict[str, Any]:
    """BLAS, OpenMP and torch's build, as a process with a worker's settings sees them; or ``failed``, a sentence."""
    return {"failed": None, **ask_probe("libraries", threads)}


def machine_key(here: Mapping[str, Any]) -> str:
    """Names the hardware that :func:`environment` described: equal keys mean that times may be compared.

    What changes while the hardware stays is left out: frequencies, load, free memory, the kernel, the host's name.
    """
    identity = {name: here.get(name) for name in _IDENTITY}
    identity["memory_gib"] = _gib(here.get("memory_total_bytes"))
    identity["gpus"] = [
        [gpu.get("name"), _gib(gpu.get("memory_total_bytes")), str(gpu.get("driver")).partition(".")[0]]
        for gpu in here.get("gpus") or []
    ]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return f"{KEY_VERSION}-{digest}"


def _gib(size: int | None) -> int | None:
    """The kernel and the driver reserve a varying bit of the memory; whole GiB stay the same."""
    return None if size is None else round(size / 2**30)
