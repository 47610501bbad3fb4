"""Limits of Linux control groups, versions 1 and 2, on a container or a service.

A limit applies to a group and all groups below it, so the smallest one on the way to the root counts.
See the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.machine.hardware.sysfile import read, read_integer

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNLIMITED_BYTES = 2**60
"""Version 1 expresses 'no limit' as the largest number of whole pages."""


def processor_limit(root: Path = Path("/")) -> float | None:
    """Return the number of processors whose time this process may use, such as 1.5; ``None`` without a limit."""
    limits = [limit for folder in _folders(root, "cpu") if (limit := _quota(folder)) is not None]
    return min(limits, default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that this process and the others in its group may use; ``None`` without a limit."""
    found = (
        read_integer(folder / name)
        for folder in _folders(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    )
    return min((limit for limit in found if limit is not None and limit < _UNLIMITED_BYTES), default=None)


def _quota(folder: Path) -> float | None:
    words = (read(folder / "cpu.max") or "").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota, period = (read_integer(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota / period if quota is not None and quota > 0 and period else None


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of all groups above it, for one controller."""
    mounted = root / "sys/fs/cgroup"
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base = mounted / "unified" if (mounted / "unified").is_dir() else mounted
        elif controller in controllers.split(","):
            base = mounted / controller
        else:
            continue
        # In a container the path may be the host's; then only the top folder exists, which has the limit.
        group = base / path.lstrip("/")
        yield group
        yield from (parent for parent in group.parents if parent.is_relative_to(base))
