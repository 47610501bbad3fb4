"""What the processor is: model, cores, instructions, caches, clock."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from attnbench.machine.pinning import usable_processors

_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_tile", "asimd", "sve", "bf16")


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name as it gives it itself."""
    return _cpuinfo(root).get("model name") or platform.processor() or platform.machine()


def cpu(root: Path = Path("/")) -> dict[str, Any]:
    """Facts about the processor, JSON-ready; what the system hides is ``None``."""
    import psutil

    info = _cpuinfo(root)
    flags = set((info.get("flags") or info.get("Features") or "").split())
    usable = usable_processors()
    return {
        "cpu_model": cpu_model(root),
        "cpu_architecture": platform.machine(),
        "cpu_family": info.get("cpu family"),
        "cpu_model_number": info.get("model"),
        "cpu_stepping": info.get("stepping"),
        "cpu_instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cpu_physical": psutil.cpu_count(logical=False),
        "cpu_logical": psutil.cpu_count(logical=True),
        "cpu_usable": usable,
        "cpu_hypervisor": "hypervisor" in flags if flags else None,
        "cpu_caches": _caches(root),
        "cpu_governor": _read(root / f"sys/devices/system/cpu/cpu{usable[0]}/cpufreq/scaling_governor"),
        "cpu_mhz": _megahertz(root, usable[0]),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        "cpu_quota": _read(root / "sys/fs/cgroup/cpu.max"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def steal_ticks(root: Path = Path("/")) -> int | None:
    """Time that the hypervisor gave to others since boot, in clock ticks, over all processors."""
    text = _read(root / "proc/stat")
    fields = text.splitlines()[0].split() if text else []
    return int(fields[8]) if len(fields) > 8 else None


def _cpuinfo(root: Path) -> dict[str, str]:
    """First processor's block of /proc/cpuinfo; empty elsewhere."""
    text = _read(root / "proc/cpuinfo") or ""
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _caches(root: Path) -> dict[str, str] | None:
    found = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and size:
            found[f"L{level}{(kind or '')[:1].lower() if kind != 'Unified' else ''}"] = size
    return found or None


def _megahertz(root: Path, processor: int) -> float | None:
    text = _read(root / f"sys/devices/system/cpu/cpu{processor}/cpufreq/scaling_cur_freq")
    if text:
        return int(text) / 1000
    clock = _cpuinfo(root).get("cpu MHz")
    return float(clock) if clock else None


def _read(path: Path) -> str | None:
    """A small text file of the system, stripped; ``None`` where it is hidden or missing."""
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
