"""Peaks of a machine, remembered for a day: they do not change, and measuring them takes seconds."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.caches import own_cache
from attnbench.machine.pace.peaks import peaks_from
from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMEMBERED_S = 24 * 3600
_MOST_BYTES = 2**20


def remembered_peaks(machine_key: str, device: str, threads: int, *, quick: bool) -> dict[str, Any] | None:
    """Return peaks of the last day, measured at least as thoroughly, or ``None``; an unreadable cache is empty."""
    for thoroughly in (False, True) if quick else (True,):
        path = _path(machine_key, device, threads, quick=not thoroughly)
        with contextlib.suppress(OSError, ValueError):
            if 0 <= time.time() - path.stat().st_mtime < _REMEMBERED_S:
                found = peaks_from(parse_json(read_regular(path, _MOST_BYTES).decode("utf-8")))
                if (found["device"], found["threads"], found["failed"]) == (device, threads, None):
                    return dict(found)
    return None


def remember(machine_key: str, peaks: Mapping[str, Any], *, quick: bool) -> None:
    """Keep what was measured; a cache that cannot be written costs only that."""
    if peaks["failed"]:
        return
    path = _path(machine_key, peaks["device"], peaks["threads"], quick=quick)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            try:
                json.dump(dict(peaks), file)
                file.close()
                Path(file.name).replace(path)  # whole, or not at all
            except OSError:
                Path(file.name).unlink()


def _path(machine_key: str, device: str, threads: int, *, quick: bool) -> Path:
    return own_cache() / "peaks" / f"{machine_key}-{device}-{threads}-{'quick' if quick else 'full'}.json"
