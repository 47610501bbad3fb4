"""Special files: pipes, folders and devices."""

from __future__ import annotations

import os
from pathlib import Path

ODD = ("fifo", "folder", "device")


def make_odd(kind: str, path: Path) -> None:
    """Create a pipe without a writer, a folder, or a link to an endless device."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
