"""A plug-in is imported once for its description, and again when something changes that may affect it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.registry.discover import from_file

if TYPE_CHECKING:
    from pathlib import Path

KERNEL = """
from pathlib import Path
import importlib.util
from attnbench import attention

with Path({log!r}).open("a") as log:
    log.write("imported\\n")
if importlib.util.find_spec("tiles"):
    import tiles

@attention("mine/kernel", framework="numpy")
def kernel(q, k, v, case):
    return v
"""
HOOK = """
@kernel.available
def available():
    return None
"""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    log = tmp_path / "log"
    (tmp_path / "mine" / "kernel.py").write_text(KERNEL.format(log=str(log)))
    return log


def described(log: Path) -> tuple[int, str | None]:
    """Return the number of imports so far, and the hash of the plug-in's source."""
    (found,) = from_file(str(log.with_name("mine") / "kernel.py"))
    return log.read_text().count("imported"), found.source_hash


def test_a_plugin_that_stays_as_it_is_is_imported_once(log: Path) -> None:
    first, second = described(log), described(log)
    assert first == second
    assert first[0] == 1


def test_a_plugin_that_changes_is_imported_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = log.with_name("mine") / "kernel.py"
    _, before = described(log)
    kernel.write_text(kernel.read_text() + "\n# changed\n")
    count, after = described(log)
    assert (count, after == before) == (2, False)
    (kernel.parent / "tiles.py").write_text("SIZE = 64\n")  # a new neighbour
    count, with_tiles = described(log)
    assert (count, with_tiles == after) == (3, False)
    (kernel.parent / "tiles.py").write_text("SIZE = 32\n")
    assert described(log)[0] == 4
    monkeypatch.setenv("MINE_TILES", "7")
    assert described(log)[0] == 5


def test_a_plugin_that_looks_at_the_machine_is_asked_each_time(log: Path) -> None:
    kernel = log.with_name("mine") / "kernel.py"
    kernel.write_text(kernel.read_text() + HOOK)
    assert [described(log)[0] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("text", ["", "[]", '{"found": [], "folders": {}}', '{"found": [{"name": 3}], "folders": {}}'])
def test_what_is_no_description_is_not_taken(log: Path, text: str) -> None:
    described(log)
    (kept,) = (log.parent / "cache" / "plugins").iterdir()
    kept.write_text(text)
    assert described(log)[0] == 2


def test_an_import_that_takes_long_is_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.registry.probing.ask_probe._LONG_S", 0.2)
    kernel = log.with_name("mine") / "kernel.py"
    kernel.write_text("import time\ntime.sleep(1)\n" + kernel.read_text())
    said: list[str] = []
    from_file(str(kernel), said.append)
    assert said == [f"waiting for the import of file {kernel}, for 120 s at most"]
