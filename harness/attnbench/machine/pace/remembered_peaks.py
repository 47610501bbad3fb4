"""Cache of a machine's peaks, valid for a day: they rarely change, and measuring takes seconds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from attnbench.machine.caches import own_cache
from attnbench.machine.kept import keep, read_kept
from attnbench.machine.pace.peaks import Peaks, peaks_from

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_REMEMBERED_S = 24 * 3600


def remembered_peaks(machine_key: str, device: str, threads: int, *, quick: bool) -> Peaks | None:
    """Return peaks of the last day, measured at least as thoroughly, or ``None``; an unreadable file is ignored."""
    for thoroughly in (False, True) if quick else (True,):
        path = _path(machine_key, device, threads, quick=not thoroughly)
        with contextlib.suppress(ValueError):
            found = peaks_from(read_kept(path, newer_than_s=_REMEMBERED_S))
            if (found["device"], found["threads"], found["failed"]) == (device, threads, None):
                return found
    return None


def remember(machine_key: str, peaks: Mapping[str, Any], *, quick: bool) -> None:
    """Store measured peaks, unless they failed."""
    if not peaks["failed"]:
        keep(_path(machine_key, peaks["device"], peaks["threads"], quick=quick), dict(peaks))


def _path(machine_key: str, device: str, threads: int, *, quick: bool) -> Path:
    return own_cache() / "peaks" / f"{machine_key}-{device}-{threads}-{'quick' if quick else 'full'}.json"
