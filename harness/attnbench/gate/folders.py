"""Folders in which gates and calibrations keep their files."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def default_folder(scenario: str) -> Path:
    """Return the path of a new folder in ``results/gates``, named by time and scenario."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results/gates") / f"{stamp}-{scenario}"


def open_folder(folder: Path, plan: Mapping[str, object], say: Callable[[str], None]) -> None:
    """Create the folder of a gate, or continue an interrupted one with the same plan.

    Raises:
        UsageError: if the folder holds something else, or cannot be written.
    """
    stored = folder / "plan.json"
    text = json.dumps(plan, indent=2)
    if stored.is_file() and stored.read_text(encoding="utf-8") == text:
        say(f"going on with {folder}: complete runs are kept")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(
                f"{folder} holds something else already, such as a gate of other sides or cells: give another --out"
            )
        stored.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def calibration_path(scenario: str, machine_key: str, threads: int) -> Path:
    """Return the path of a machine's calibration for a scenario."""
    return Path("results/calibration") / f"{scenario}-{machine_key}-{threads}t.json"
