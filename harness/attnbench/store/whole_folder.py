"""Folders that are written as a whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def require_room(folder: Path, noun: str, mark: str, *, force: bool) -> None:
    """Raise unless a folder may be written; ``force`` only replaces a folder of the same kind.

    Args:
        folder: the folder to write.
        noun: its kind for messages, such as a profile.
        mark: the file that each folder of this kind has.
        force: whether to replace an existing one.

    Raises:
        UsageError: if it exists already and is not to be replaced.
    """
    is_one = (folder / mark).is_file()
    if folder.exists() and not (force and is_one):
        raise UsageError(f"{folder} exists already; {'--force replaces it' if is_one else f'and it is no {noun}'}")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which replaces ``folder`` when the block ends.

    If the block raises, nothing is left behind, parent folders included, and an existing folder is kept.

    Raises:
        UsageError: if nothing can be written there.
    """
    around = folder.absolute().parent
    missing = [one for one in (around, *around.parents) if not one.exists()]
    try:
        around.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=around) as place:
            made = Path(place) / "new"
            made.mkdir()
            yield made
            _put_in_place(made, folder, aside=Path(place) / "old")
    except BaseException as error:
        with contextlib.suppress(OSError):  # another process has put something there
            for one in missing:
                one.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        raise


def _put_in_place(made: Path, folder: Path, aside: Path) -> None:
    """Move the new folder to its place; an existing folder is restored if that fails."""
    if not folder.exists():
        made.rename(folder)
        return
    folder.rename(aside)
    try:
        made.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
