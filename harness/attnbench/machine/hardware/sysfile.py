"""The small text files in which Linux tells of itself, below ``/proc`` and ``/sys``; elsewhere there are none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def read(path: Path) -> str | None:
    """The file's text, stripped; ``None`` where it is missing, hidden or empty."""
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def read_integer(path: Path) -> int | None:
    """The file's number; ``None`` where it is missing, hidden, or says something else, such as ``max``."""
    text = read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def to_bytes(text: str | None) -> int | None:
    """``2048K`` to 2097152; ``None`` for what is not a size."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text or "")
    return int(match[1]) * _UNITS[match[2]] if match else None
