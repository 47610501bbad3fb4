"""The processor: model, cores, instructions, caches, clock and load."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.hardware.cgroup import processor_limit
from attnbench.machine.hardware.pinning import usable_processors
from attnbench.machine.hardware.sysfile import read, read_integer, to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

# The machine key hashes the instructions found among these: a change needs a new KEY_VERSION.
_INSTRUCTIONS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16", "avx512_vnni"),
    *("amx_tile", "amx_bf16", "amx_fp16", "amx_int8"),
    *("asimd", "neon", "asimdhp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme"),
)


def cpu_model(root: Path = Path("/")) -> str:
    """Return the model name that the processor reports."""
    found = _cpuinfo(root).get("model name") or _asked_elsewhere().get("brand_raw")
    return str(found or platform.processor() or platform.machine())


def cpu(root: Path = Path("/")) -> dict[str, object]:
    """Return facts about the processor, JSON-ready; unknown ones are ``None``.

    Returns:
        ``cpu_usable`` lists the processors that this process may use; ``cpu_limit`` is the container's limit in
        processors. ``cpu_steal_share`` is the share of all time since boot that the hypervisor gave to others;
        ``runnable`` counts running and runnable tasks, this one included.
    """
    import psutil

    info, flags = _cpuinfo(root), _flags(root)
    usable = usable_processors()
    frequencies = root / f"sys/devices/system/cpu/cpu{usable[0]}/cpufreq"
    ticks = processor_ticks(root)
    return {
        "cpu_model": cpu_model(root),
        "cpu_architecture": platform.machine(),
        "cpu_family": info.get("cpu family"),
        "cpu_model_number": info.get("model") or info.get("CPU part"),
        "cpu_stepping": info.get("stepping") or info.get("CPU revision"),
        "cpu_instructions": None if flags is None else [name for name in _INSTRUCTIONS if name in flags],
        "cpu_physical": psutil.cpu_count(logical=False),
        "cpu_logical": psutil.cpu_count(logical=True),
        "cpu_usable": usable,
        "cpu_limit": processor_limit(root),
        "cpu_hypervisor": None if flags is None or "fpu" not in flags else "hypervisor" in flags,
        "cpu_cache_bytes": _caches(root),
        "cpu_governor": read(frequencies / "scaling_governor"),
        "cpu_mhz": _megahertz(frequencies, info),
        "cpu_max_mhz": _thousandth(read_integer(frequencies / "cpuinfo_max_freq")),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "runnable": _runnable(root),
        "cpu_steal_share": None if ticks is None else ticks[0] / max(1, ticks[1]),
    }


def last_level_cache_bytes(root: Path = Path("/")) -> int | None:
    """Return the size in bytes of the first processor's largest cache; ``None`` if unknown."""
    return max((_caches(root) or {}).values(), default=None)


def processor_ticks(root: Path = Path("/")) -> tuple[int, int] | None:
    """Return stolen time and total time since boot, in clock ticks summed over all processors."""
    text = read(root / "proc/stat")
    fields = text.splitlines()[0].split() if text else []
    if len(fields) < 9:
        return None
    # user nice system idle iowait irq softirq steal; the guest times after them are included in user time (proc(5)).
    ticks = [int(field) for field in fields[1:9]]
    return ticks[7], sum(ticks)


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the first processor's block of /proc/cpuinfo; empty on other systems."""
    text = read(root / "proc/cpuinfo") or ""
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _flags(root: Path) -> set[str] | None:
    info = _cpuinfo(root)
    said = info.get("flags") or info.get("Features")
    if said:
        return set(said.split())
    return set(_asked_elsewhere().get("flags") or ()) or None


@functools.cache
def _asked_elsewhere() -> Mapping[str, Any]:
    """Return py-cpuinfo's facts, for systems other than Linux on x86; slow, because it starts processes."""
    import cpuinfo

    try:
        return dict(cpuinfo.get_cpu_info())
    except Exception as error:  # noqa: BLE001 - it raises a bare Exception for a processor that it does not know
        return {"failed": str(error)}


def _caches(root: Path) -> dict[str, int] | None:
    found = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = read(index / "level"), read(index / "type"), to_bytes(read(index / "size"))
        if level and size:
            found[f"L{level}{(kind or '')[:1].lower() if kind != 'Unified' else ''}"] = size
    return found or None


def _megahertz(frequencies: Path, info: dict[str, str]) -> float | None:
    clock = info.get("cpu MHz")
    return _thousandth(read_integer(frequencies / "scaling_cur_freq")) or (float(clock) if clock else None)


def _thousandth(kilohertz: int | None) -> float | None:
    return None if kilohertz is None else kilohertz / 1000


def _runnable(root: Path) -> int | None:
    words = (read(root / "proc/loadavg") or "").split()
    return int(words[3].partition("/")[0]) if len(words) > 3 else None
