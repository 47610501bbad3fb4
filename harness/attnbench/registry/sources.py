"""The source of a plug-in: the files that were read while its module was imported."""

from __future__ import annotations

import contextlib
import hashlib
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def hash_of_files(files: Iterable[str]) -> str | None:
    """SHA-256 of the contents of files in their order, twelve digits; ``None`` without files, or if one is gone."""
    try:
        contents = [Path(file).read_bytes() for file in files]
    except OSError:
        return None
    if len(contents) > 1:
        contents = [hashlib.sha256(one).digest() for one in contents]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:12] if contents else None


@contextlib.contextmanager
def files_read() -> Iterator[set[str]]:
    """Collects what an import within the block reads, libraries aside; the set is complete when the block has ended.

    These are the modules from outside of site-packages, compiled ones included, and the other files that Python opens
    for reading, or loads as libraries, in the folders of those modules. A process stays wired up for good.
    """
    opened: set[str] = set()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        reading = event == "open" and isinstance(arguments[2], int) and not arguments[2] & os.O_ACCMODE
        if (reading or event == "ctypes.dlopen") and isinstance(arguments[0], str | bytes | os.PathLike):
            opened.add(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    before = set(sys.modules)
    found: set[str] = set()
    yield found
    imported = [vars(sys.modules[name]).get("__file__") for name in sys.modules.keys() - before]
    libraries = library_folders()
    modules = {path for file in imported if (path := _own(file, libraries))}
    folders = {path.parent for path in modules}
    read = {path for file in opened if (path := _own(file, libraries)) and not folders.isdisjoint(path.parents)}
    found |= {str(path) for path in modules | read if "__pycache__" not in path.parts}


def library_folders() -> list[Path]:
    """Folders of what is installed; a change there shows in a version."""
    known = sysconfig.get_paths()
    installed = [known[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [*installed, *site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])]
    return [Path(folder).resolve() for folder in folders]


def _own(file: object, libraries: Iterable[Path]) -> Path | None:
    """The path of a file that is there and lies outside of libraries, or ``None``."""
    if not isinstance(file, str):
        return None
    path = Path(file).resolve()
    return path if path.is_file() and not any(path.is_relative_to(folder) for folder in libraries) else None
