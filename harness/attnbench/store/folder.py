"""The default folder of run files, and the latest one in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.untrusted.json_text import parse_json

RUN_FOLDER = Path("results/runs")
_LONGEST_HEADER = 2**24


def latest_run(*, timed: bool = False, scenario: str | None = None) -> Path:
    """Return the most recently written run file, except those written by a profile.

    Args:
        timed: skip runs that only check agreement.
        scenario: skip runs of other scenarios.

    Raises:
        UsageError: if there is none.
    """
    written = newest_first(RUN_FOLDER)
    passed_over = ("profile", "check") if timed else ("profile",)
    found = next((path for path in written if _fits(_asked_by(path), passed_over, scenario)), None)
    if found is None:
        none = "none with times" if timed and written else "none"
        of = f" of {scenario}" if scenario else ""
        raise UsageError(f"which run? {RUN_FOLDER} has {none}{of} yet; attnbench run {scenario or 'quick'} makes one")
    return found


def newest_first(folder: Path) -> list[Path]:
    """Return the folder's run files, the one that was written last first."""
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.jsonl") if path.is_file()}
    return sorted(written, key=lambda path: (written[path], path.name), reverse=True)


def _fits(asked_by: tuple[str, str] | None, passed_over: tuple[str, ...], scenario: str | None) -> bool:
    if asked_by is None:
        return scenario is None
    return asked_by[0] not in passed_over and scenario in (None, asked_by[1])


def _asked_by(path: Path) -> tuple[str, str] | None:
    """Return the command that wrote the file, and the scenario; ``None`` without a readable header."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError), path.open("rb") as file:
        header = parse_json(file.readline(_LONGEST_HEADER).decode("utf-8"))
        if isinstance(header, dict):
            return str(header["command"][1]), str(header["scenario"]["name"])
    return None
