"""Reads a run file's records for a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attnbench.store.reader import RunFileError, read_run


def records_of(path: Path) -> list[dict[str, Any]]:
    """The records of a run file that may not exist, or not have a header yet."""
    try:
        return list(read_run(path).records)
    except (OSError, RunFileError):
        return []


def short(text: str | None) -> str:
    """The start of a sentence."""
    return " ".join((text or "").split())[:150]


def used_budget(record: dict[str, Any]) -> float:
    """The largest share of a budget that an error took: output, LSE, gradients, identities."""
    return max((value for name, value in record.items() if name.endswith("_error_ratio") and value), default=0.0)
