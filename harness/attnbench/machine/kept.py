"""Cached facts: JSON files in attnbench's cache folder, which may be deleted at any time."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path

from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.regular_file import read_regular

_MOST_BYTES = 2**20


def read_kept(path: Path, *, newer_than_s: float | None = None) -> object | None:
    """Return a file's content; ``None`` if it is missing, unreadable or older than ``newer_than_s`` seconds."""
    with contextlib.suppress(OSError, ValueError):
        if newer_than_s is None or 0 <= time.time() - path.stat().st_mtime < newer_than_s:
            return parse_json(read_regular(path, _MOST_BYTES).decode("utf-8"))
    return None


def keep(path: Path, value: object) -> None:
    """Write a value to a file as :func:`keep_text` does."""
    keep_text(path, json.dumps(value))


def keep_text(path: Path, text: str) -> None:
    """Write a file atomically; errors are ignored, since the file is only a cache."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            try:
                file.write(text)
                file.close()
                Path(file.name).replace(path)
            except OSError:
                Path(file.name).unlink()
