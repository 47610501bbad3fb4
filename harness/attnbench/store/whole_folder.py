"""A folder that is written whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the place of ``folder`` when the block ends.

    Where the block raises, nothing is left, and what was there stays; folders around it that had to be made go, too.

    Raises:
        OSError: where nothing can be written there.
    """
    around = folder.absolute().parent
    missing = [one for one in (around, *around.parents) if not one.exists()]
    around.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=around) as place:
            made = Path(place) / "new"
            made.mkdir()
            yield made
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else has put something there
            for one in missing:
                one.rmdir()
        raise
