"""How much memory the machine has, and how it hands it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def memory(root: Path = Path("/")) -> dict[str, Any]:
    """Total, available and swapped memory in bytes, limits, huge pages; ``None`` where the system does not tell."""
    import psutil

    virtual, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory_total_bytes": virtual.total,
        "memory_available_bytes": virtual.available,
        "swap_used_bytes": swap.used,
        "memory_limit": _text(root / "sys/fs/cgroup/memory.max"),
        "huge_pages": _chosen(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
    }


def _chosen(text: str | None) -> str | None:
    """``always [madvise] never`` to ``madvise``."""
    return text.partition("[")[2].partition("]")[0] or None if text else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
