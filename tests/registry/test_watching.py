"""The changes that ``--watch`` waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.registry.sources import hash_of_files
from attnbench.registry.watching import plugin_files, wait_for_change

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_files_are_those_that_plug_ins_read() -> None:
    implementations: dict[str, dict[str, Any]] = {
        "mine/a": {"origin": {"kind": "file", "target": "/k/a.py"}, "files": ["/k/a.py", "/k/tiles.py"]},
        "mine/broken": {"origin": {"kind": "file", "target": "/k/broken.py"}},
        "torch/sdpa": {"origin": {"kind": "module", "target": "attnbench.implementations.torch"}, "files": []},
    }
    assert plugin_files(implementations) == ("/k/a.py", "/k/broken.py", "/k/tiles.py")


def steps(*edits: Callable[[], object]) -> Callable[[float], object]:
    """Return a sleep that makes the next edit; it fails if a watcher still sleeps after the last edit."""
    left = iter(edits)
    return lambda _: next(left)()


def test_it_waits_until_contents_change_and_are_there_as_a_whole(tmp_path: Path) -> None:
    kernel, tiles = tmp_path / "kernel.py", tmp_path / "tiles.py"
    files = (str(kernel), str(tiles))
    kernel.write_text("A = 1\n")
    tiles.write_text("B = 1\n")
    before = hash_of_files(files)
    seen = wait_for_change(
        files,
        before,
        steps(
            lambda: None,
            lambda: kernel.write_text("A = 1\n"),  # saved without changes
            tiles.unlink,  # an editor replaces it
            lambda: None,
            lambda: tiles.write_text("B ="),  # half of the file
            lambda: tiles.write_text("B = 22\n"),
            lambda: None,
        ),
    )
    assert seen == hash_of_files(files) != before
    assert tiles.read_text() == "B = 22\n"
