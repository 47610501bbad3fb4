"""Ends processes that plug-ins leave behind, identified by a mark in their environment.

A process leaves its session or group by ``setsid``, and its parent by forking twice. The environment with which it was
started stays readable and is inherited by its children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARIABLE = "ATTNBENCH_CHILD"
_ROUNDS = 20
"""How often to search again for processes that forked during the search."""


def marked(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment for a child, and the mark that identifies its descendants."""
    mark = uuid.uuid4().hex
    return {**environment, _VARIABLE: mark}, mark


def end_marked(mark: str) -> None:
    """Kill every process that carries a mark; does nothing on systems without ``/proc``."""
    for _ in range(_ROUNDS):
        left = list(_with_mark(f"{_VARIABLE}={mark}".encode()))
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return


def _with_mark(entry: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found = entry in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it belongs to another user or has ended; a zombie has no environment
            continue
        if found:
            yield int(folder.name)
