"""The source of a plug-in: the files that were read while its module was imported."""

from __future__ import annotations

import ast
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


CODE_OR_DATA = (
    *(".py", ".pyx", ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".cu", ".cuh", ".cl", ".hip", ".s", ".ptx", ".ll"),
    *(".so", ".cubin", ".json", ".toml", ".yaml", ".yml", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".bin"),
)
"""File name endings of what a kernel consists of; logs and results, which change between runs, have others."""


def hash_of_files(files: Iterable[str]) -> str | None:
    """Return the SHA-256 of the files' contents in order, twelve digits; ``None`` if there are none or one is gone."""
    try:
        contents = [Path(file).read_bytes() for file in files]
    except OSError:
        return None
    if len(contents) > 1:
        contents = [hashlib.sha256(one).digest() for one in contents]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:12] if contents else None


@contextlib.contextmanager
def files_read() -> Iterator[set[str]]:
    """Yield a set that gets the files read by imports in the block, libraries excluded, when the block ends.

    These are the modules outside site-packages, compiled ones included; other files in the folders of those modules
    that Python opens for reading or loads as libraries; and files that these sources name but have not read yet
    (:func:`_read_later`). The audit hook stays installed for the rest of the process.
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
    read |= modules
    found |= {str(path) for path in read | _read_later(read, libraries) if "__pycache__" not in path.parts}


def _read_later(read: set[Path], libraries: Iterable[Path]) -> set[Path]:
    """Return files that Python sources name: modules imported inside functions, and quoted names of code or data.

    They are read when a kernel is prepared or called, or by a compiler. Names built at run time are missed.
    """
    found: set[Path] = set()
    new = set(read)
    while new:
        named = {path for source in new if source.suffix == ".py" for path in _named_in(source)}
        new = {path for one in named if (path := _own(str(one), libraries)) is not None} - found - read
        found |= new
    return found


def _named_in(source: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of_module(source.parent, alias.name)
        elif isinstance(node, ast.ImportFrom):
            folder = source.parents[max(0, node.level - 1)] if node.level <= len(source.parents) else source.parent
            yield from _files_of_module(folder, node.module or "")
            for alias in node.names:
                yield from _files_of_module(folder, ".".join(filter(None, (node.module, alias.name))))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(CODE_OR_DATA):
            yield source.parent / node.value


def _files_of_module(folder: Path, name: str) -> Iterator[Path]:
    """Yield the possible files of a module with this dotted name, and of its packages."""
    parts = name.split(".") if name else []
    for count in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:count])
        yield place / "__init__.py"
        yield place.with_name(f"{place.name}.py")
        yield place.with_name(f"{place.name}{sysconfig.get_config_var('EXT_SUFFIX')}")


def library_folders() -> list[Path]:
    """Return the folders of installed code, whose changes show in versions."""
    known = sysconfig.get_paths()
    installed = [known[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [*installed, *site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])]
    return [Path(folder).resolve() for folder in folders]


def _own(file: object, libraries: Iterable[Path]) -> Path | None:
    """Return the resolved path of an existing file outside of libraries, or ``None``."""
    if not isinstance(file, str):
        return None
    try:
        path = Path(file).resolve()
        is_own = path.is_file() and not any(path.is_relative_to(folder) for folder in libraries)
    except (OSError, ValueError):  # not a valid path
        return None
    return path if is_own else None
