"""The folder that fresh runs go to, and the latest of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.untrusted.json_text import parse_json

RUN_FOLDER = Path("results/runs")
_LONGEST_HEADER = 2**24


def latest_run(*, timed: bool = False) -> Path:
    """The run file that was written to last, but for those that a profile made on its way.

    Args:
        timed: pass over runs of agreement alone.

    Raises:
        UsageError: when there is none.
    """
    written = {path: path.stat().st_mtime_ns for path in RUN_FOLDER.glob("*.jsonl") if path.is_file()}
    newest_first = sorted(written, key=lambda path: (written[path], path.name), reverse=True)
    passed_over = ("profile", "check") if timed else ("profile",)
    found = next((path for path in newest_first if _command_of(path) not in passed_over), None)
    if found is None:
        none = "none with times" if timed and written else "none"
        raise UsageError(f"which run? {RUN_FOLDER} has {none} yet; attnbench run quick makes one")
    return found


def _command_of(path: Path) -> str | None:
    """The command that wrote the file; what has no header is left to whoever reads it."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError), path.open("rb") as file:
        header = parse_json(file.readline(_LONGEST_HEADER).decode("utf-8"))
        return str(header["command"][1]) if isinstance(header, dict) else None
    return None
