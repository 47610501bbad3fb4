"""How much memory the machine has, and how it hands it out."""

from __future__ import annotations

from pathlib import Path

from attnbench.machine.hardware.cgroup import memory_limit_bytes
from attnbench.machine.hardware.sysfile import read


def memory(root: Path = Path("/")) -> dict[str, object]:
    """Total, available and swapped memory in bytes, limits, huge pages; ``None`` where the system does not tell."""
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
    """Bytes that new processes can have without swapping, and never more than a container's limit."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = memory_limit_bytes(root)
    return available if limit is None else min(available, limit)


def _chosen(text: str | None) -> str | None:
    """``always [madvise] never`` to ``madvise``."""
    return text.partition("[")[2].partition("]")[0] or None if text else None
