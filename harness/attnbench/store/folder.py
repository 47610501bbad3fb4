"""The folder that fresh runs go to, and the latest of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.untrusted.json_text import parse_json

RUN_FOLDER = Path("results/runs")
_LONGEST_HEADER = 2**24


def latest_run() -> Path:
    """The run file that was written to last, but for those that a profile made on its way.

    Raises:
        UsageError: when there is none.
    """
    written = {path: path.stat().st_mtime_ns for path in RUN_FOLDER.glob("*.jsonl") if path.is_file()}
    newest_first = sorted(written, key=lambda path: (written[path], path.name), reverse=True)
    found = next((path for path in newest_first if not _is_of_a_profile(path)), None)
    if found is None:
        raise UsageError(f"which run? {RUN_FOLDER} has none yet; attnbench run quick makes one")
    return found


def _is_of_a_profile(path: Path) -> bool:
    """Whether the file's header names the command ``profile``; what is no header is left to whoever reads it."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError), path.open("rb") as file:
        header = parse_json(file.readline(_LONGEST_HEADER).decode("utf-8"))
        return isinstance(header, dict) and header["command"][1:2] == ["profile"]
    return False
