"""Folders of gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.errors import UsageError
from attnbench.gate.folders import open_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_out_that_is_a_file_is_refused_and_stays(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    out.write_text("a run", encoding="utf-8")
    for folder in (out, out / "below"):
        with pytest.raises(UsageError, match="cannot be written"):
            open_folder(folder, {"rounds": 4}, print)
    assert out.read_text(encoding="utf-8") == "a run"
