"""Waits for changes in the files of a run's plug-ins, for ``--watch``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.registry.sources import hash_of_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

POLL_S = 0.2


def plugin_files(implementations: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the files read during import of a run's plug-ins: the plug-ins themselves and what they import."""
    files = {
        str(file)
        for about in implementations.values()
        if (about.get("origin") or {}).get("kind") == "file"
        for file in [*about.get("files", ()), about["origin"]["target"]]
    }
    return tuple(sorted(files))


def wait_for_change(files: Iterable[str], before: str | None, sleep: Callable[[float], object] = time.sleep) -> str:
    """Sleep until the contents of the files differ from ``before`` and have stopped changing.

    Args:
        files: to watch. A missing file is no change yet, since editors may replace files by removing them.
        before: :func:`attnbench.registry.sources.hash_of_files` when they were last read.
        sleep: sleeps for a number of seconds.

    Returns:
        The hash of the new contents.
    """
    watched = tuple(files)
    seen: object = None
    while True:
        now = _stamps(watched)
        if now == seen:
            sleep(POLL_S)
            continue
        contents = hash_of_files(watched)
        if contents is not None and contents != before:
            sleep(POLL_S)
            if _stamps(watched) == now:  # a write in two steps has finished
                return contents
        seen = now


def _stamps(files: tuple[str, ...]) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            about = Path(file).stat()
        except OSError:
            found.append(None)
        else:
            found.append((about.st_mtime_ns, about.st_size))
    return found
