"""The folder that fresh runs go to, and the latest of them."""

from __future__ import annotations

from pathlib import Path

from attnbench.errors import UsageError

RUN_FOLDER = Path("results/runs")


def latest_run() -> Path:
    """The run file that was written to last.

    Raises:
        UsageError: when there is none.
    """
    written = {path: path.stat().st_mtime_ns for path in RUN_FOLDER.glob("*.jsonl") if path.is_file()}
    if not written:
        raise UsageError(f"which run? {RUN_FOLDER} has none yet; attnbench run quick makes one")
    return max(written, key=lambda path: (written[path], path.name))
