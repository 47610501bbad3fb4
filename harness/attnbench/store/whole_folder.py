"""A folder that is written whole, or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def require_room(folder: Path, noun: str, mark: str, *, force: bool) -> None:
    """Do nothing where a folder may be written: ``force`` replaces one of the same kind, and nothing else.

    Args:
        folder: where it is to be.
        noun: what it is to be, such as a profile.
        mark: the file that each such folder has.
        force: replace what is there.

    Raises:
        UsageError: where something is there already.
    """
    is_one = (folder / mark).is_file()
    if folder.exists() and not (force and is_one):
        raise UsageError(f"{folder} exists already; {'--force replaces it' if is_one else f'and it is no {noun}'}")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the place of ``folder`` when the block ends.

    Where the block raises, nothing is left, and what was there stays; folders around it that had to be made go, too.

    Raises:
        UsageError: where nothing can be written there.
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
        with contextlib.suppress(OSError):  # somebody else has put something there
            for one in missing:
                one.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        raise


def _put_in_place(made: Path, folder: Path, aside: Path) -> None:
    """Move the new folder to its place; what was there stays there if that fails."""
    if not folder.exists():
        made.rename(folder)
        return
    folder.rename(aside)
    try:
        made.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
