"""A folder is written completely or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.store.whole_folder import whole_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "where" / "page"
    for text in ("first", "second"):
        with whole_folder(folder) as made:
            assert not (folder / text).exists()
            (made / text).write_text(text)
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert [path.name for path in folder.parent.iterdir()] == ["page"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_what_failed(tmp_path: Path, kind: type[BaseException]) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "some" / "where" / "page") as made:
            (made / "half").write_text("half")
            raise kind

    with pytest.raises(kind):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(ValueError), whole_folder(folder):  # noqa: PT011 - any will do
        raise ValueError
    assert [path.name for path in folder.iterdir()] == ["old"]
