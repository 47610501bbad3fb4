"""Small text files below ``/proc`` and ``/sys``, in which Linux describes itself; other systems have none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def read(path: Path) -> str | None:
    """Return the file's text, stripped; ``None`` if it is missing, unreadable or empty."""
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def read_integer(path: Path) -> int | None:
    """Return the file's integer; ``None`` if it is missing, unreadable or something else, such as ``max``."""
    text = read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def to_bytes(text: str | None) -> int | None:
    """Parse a size such as ``2048K`` to bytes; ``None`` if it is malformed."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text or "")
    return int(match[1]) * _UNITS[match[2]] if match else None
