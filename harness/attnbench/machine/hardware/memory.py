"""Memory of the machine: size, limits and huge pages."""

from __future__ import annotations

from pathlib import Path

from attnbench.machine.hardware.cgroup import memory_limit_bytes
from attnbench.machine.hardware.sysfile import read


def memory(root: Path = Path("/")) -> dict[str, object]:
    """Return total, available and swap memory and the limit in bytes, and the huge-page mode; unknown is ``None``."""
    import psutil

    virtual, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory_total_bytes": virtual.total,
        "memory_available_bytes": virtual.available,
        "memory_limit_bytes": memory_limit_bytes(root),
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
        "huge_pages": _chosen(read(root / "sys/kernel/mm/transparent_hugepage/enabled")),
    }


def available_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that new processes can use without swapping, at most the container's limit."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = memory_limit_bytes(root)
    return available if limit is None else min(available, limit)


def _chosen(text: str | None) -> str | None:
    """Parse the selected option: ``always [madvise] never`` gives ``madvise``."""
    return text.partition("[")[2].partition("]")[0] or None if text else None
