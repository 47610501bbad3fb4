"""The machine as a run's header describes it; unknown facts are ``None``."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.ask_probe import ask_probe
from attnbench.machine.caches import own_cache
from attnbench.machine.hardware.cpu import cpu
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.machine.hardware.gpu import gpus
from attnbench.machine.hardware.memory import memory
from attnbench.machine.hardware.pinning import usable_processors, worker_environment
from attnbench.machine.hardware.sysfile import read
from attnbench.machine.kept import keep, read_kept
from attnbench.machine.software import recorded_variables, software

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VERSION = "v1"
_IDENTITY = (
    *("cpu_model", "cpu_architecture", "cpu_family", "cpu_model_number", "cpu_stepping", "cpu_instructions"),
    *("cpu_physical", "cpu_logical", "cpu_hypervisor", "cpu_cache_bytes"),
)
LIBRARY_FACTS = {"failed", "processors", "thread_pools", "torch_threads", "torch_cpu_capability", "torch_cuda"}
"""Some of the probe's facts; a cached answer without them comes from another version."""


def environment() -> Mapping[str, Any]:
    """Describe the machine and its software as JSON-ready data, without importing torch or numba."""
    return {
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        **software(),
        **cpu(),
        **memory(),
        "gpus": gpus(),
        "cuda_unavailable": device_unavailable("cuda"),
    }


def libraries(threads: int, *, anew: bool = False) -> Mapping[str, Any]:
    """Describe BLAS, OpenMP and torch's build as seen by a process with a worker's settings; or ``failed``, a sentence.

    That process imports torch, which takes seconds, so its answer is cached until the machine reboots or something that
    it depends on changes; ``anew`` asks again.
    """
    key = _libraries_key(threads)
    place = None if key is None else own_cache() / "libraries" / f"{key}.json"
    known = None if place is None or anew else read_kept(place)
    if isinstance(known, dict) and known.keys() >= LIBRARY_FACTS and known.get("failed") is None:
        return known
    found = {"failed": None, **ask_probe("libraries", threads)}
    if place is not None and found["failed"] is None:
        keep(place, found)
    return found


def _libraries_key(threads: int) -> str | None:
    """Hash everything that :func:`libraries` depends on; ``None`` if the system has no boot ID."""
    boot = read(Path("/proc/sys/kernel/random/boot_id"))
    if boot is None:
        return None
    variables = worker_environment(threads)
    installed = {name: _installed(name) for name in ("torch", "numpy", "threadpoolctl")}
    facts = [boot, sys.executable, threads, usable_processors(), installed, recorded_variables(variables)]
    paths = [variables.get(name) for name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH")]
    return hashlib.sha256(json.dumps([facts, paths], sort_keys=True).encode()).hexdigest()[:16]


def _installed(module: str) -> list[str | int] | None:
    """Return the path that a module would be imported from and the file's mtime, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return [spec.origin, Path(spec.origin).stat().st_mtime_ns]


def machine_key(here: Mapping[str, Any]) -> str:
    """Return the key of the hardware in an :func:`environment`; times of equal keys may be compared.

    It excludes what can change on the same hardware: frequencies, load, free memory, the kernel, the host's name.
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
    """Round to whole GiB: the kernel and the driver reserve slightly varying amounts of memory."""
    return None if size is None else round(size / 2**30)
