"""Reads a run file's records for a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attnbench.store.reader import RunFileError, read_run


def records_of(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run file; none if it does not exist or has no header yet."""
    try:
        return list(read_run(path).records)
    except (OSError, RunFileError):
        return []


def short(text: str | None) -> str:
    """Return the start of a sentence."""
    return " ".join((text or "").split())[:150]


def used_budget(record: dict[str, Any]) -> float:
    """Return the largest error over its budget, of output, LSE, gradients and identities."""
    return max((value for name, value in record.items() if name.endswith("_error_ratio") and value), default=0.0)
