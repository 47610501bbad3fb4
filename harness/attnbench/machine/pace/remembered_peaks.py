"""Peaks of a machine, remembered for a day: they do not change, and measuring them takes seconds."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.caches import own_cache
from attnbench.machine.pace.peaks import Peaks

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMEMBERED_S = 24 * 3600


def remembered_peaks(machine_key: str, device: str, threads: int, *, quick: bool) -> dict[str, Any] | None:
    """Return peaks of the last day, measured at least as thoroughly, or ``None``; an unreadable cache is empty."""
    for thoroughly in (False, True) if quick else (True,):
        path = _path(machine_key, device, threads, quick=not thoroughly)
        with contextlib.suppress(OSError, ValueError):
            if 0 <= time.time() - path.stat().st_mtime < _REMEMBERED_S:
                found = json.loads(path.read_text("utf-8"))
                if _are_peaks(found):
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
            json.dump(dict(peaks), file)
        Path(file.name).replace(path)  # whole, or not at all


def _are_peaks(found: object) -> bool:
    if not isinstance(found, dict) or found.keys() != Peaks.__required_keys__ or not isinstance(found["tflops"], dict):
        return False
    speeds = (found[name] for name in ("gbytes_per_s", "read_gbytes_per_s"))
    rates = [*found["tflops"].values(), *(speed for speed in speeds if speed is not None)]
    return all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates)


def _path(machine_key: str, device: str, threads: int, *, quick: bool) -> Path:
    return own_cache() / "peaks" / f"{machine_key}-{device}-{threads}-{'quick' if quick else 'full'}.json"
