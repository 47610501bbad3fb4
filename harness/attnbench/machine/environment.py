"""What a run's header says of the machine that it ran on. Absent is ``None``."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

from attnbench.machine.cpu import cpu
from attnbench.machine.gpu import gpus
from attnbench.machine.memory import memory
from attnbench.machine.probe import ask_probe
from attnbench.machine.software import software

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VERSION = "v1"
_IDENTITY = ("cpu_model", "cpu_architecture", "cpu_family", "cpu_model_number", "cpu_stepping", "cpu_instructions",
             "cpu_physical", "cpu_logical", "cpu_hypervisor", "cpu_caches", "memory_total_bytes")  # fmt: skip


def environment() -> dict[str, Any]:
    """The machine and its software, JSON-ready; imports neither torch nor numpy."""
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        **software(),
        **cpu(),
        **memory(),
        "gpus": gpus(),
    }


def libraries(threads: int) -> dict[str, Any]:
    """BLAS, OpenMP and torch's build, as a process with a worker's settings sees them."""
    return ask_probe("libraries", threads)


def machine_key(here: Mapping[str, Any]) -> str:
    """Names the hardware: equal keys mean that times may be compared. No frequencies, no load, no free memory."""
    identity = {name: here.get(name) for name in _IDENTITY}
    # The kernel reserves a varying bit of the memory: whole GiB are what the machine was sold with.
    if identity["memory_total_bytes"] is not None:
        identity["memory_total_bytes"] = round(identity["memory_total_bytes"] / 2**30)
    identity["gpus"] = [gpu.get("name") for gpu in here.get("gpus") or []]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return f"{KEY_VERSION}-{digest}"
