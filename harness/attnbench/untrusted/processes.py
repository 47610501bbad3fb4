"""Processes that somebody's code leaves behind: found by a mark in their environment, and ended.

A session or process group is left by ``setsid``, and parents are forgotten by a second fork; the environment with which
a process was started stays readable, and is handed down to whatever it forks.
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
"""How often the process tree is searched again for processes that forked while it was being ended."""


def marked(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The environment for a child, and the mark by which its descendants are known."""
    mark = uuid.uuid4().hex
    return {**environment, _VARIABLE: mark}, mark


def end_marked(mark: str) -> None:
    """End every process that carries a mark. On systems without ``/proc`` nothing is found."""
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
        except OSError:  # another user's, or gone; a zombie has none
            continue
        if found:
            yield int(folder.name)
