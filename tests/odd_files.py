"""Files that are no regular ones."""

from __future__ import annotations

import os
from pathlib import Path

ODD = ("fifo", "folder", "device")


def make_odd(kind: str, path: Path) -> None:
    """A pipe that nobody writes to, a folder, or a device without an end."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
