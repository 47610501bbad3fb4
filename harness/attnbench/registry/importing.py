"""Imports the module behind an origin: a bundled one, an entry point's, or the user's file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.registry.implementation import refusing_one_by_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from attnbench.registry.found import Origin


def load_module(origin: Origin) -> ModuleType:
    """Import the module behind an origin. Runs third-party code: only a worker or a probe calls it for plug-ins."""
    if origin.kind != "file":
        with refusing_one_by_one() if origin.kind == "entry_point" else contextlib.nullcontext():
            return importlib.import_module(origin.target.partition(":")[0])
    path = Path(origin.target)
    # The plug-in can import its neighbours, but these shadow nothing.
    sys.path.append(str(path.parent))
    with _writing_no_bytecode(), refusing_one_by_one():
        root, name = _place_in_package(path)
        return _import_file(path, _own_name(path)) if root is None else _import_of_package(root, name)


def _place_in_package(path: Path) -> tuple[Path | None, str]:
    """Return the outermost package around a file (``None`` if there is none), and the file's dotted name."""
    names = [] if path.name == "__init__.py" else [path.stem]
    root, folder = None, path.parent
    while (folder / "__init__.py").is_file():
        root, names, folder = folder, [folder.name, *names], folder.parent
    return (root, ".".join(names)) if all(map(str.isidentifier, names)) else (None, "")


def _import_of_package(root: Path, name: str) -> ModuleType:
    """Import a module of a package by its name, so that relative and absolute imports of its siblings work.

    If the package's name is already taken, the package gets a unique name.
    """
    sys.path.append(str(root.parent))
    spec = importlib.util.find_spec(root.name)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != root / "__init__.py":
        own = _own_name(root)
        _import_file(root / "__init__.py", own, package=root)
        name = own + name.removeprefix(root.name)
    return importlib.import_module(name)


def _import_file(path: Path, name: str, package: Path | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=None if package is None else [str(package)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _own_name(path: Path) -> str:
    """Return a unique module name, so that a plug-in called torch.py shadows nothing."""
    return "attnbench_plugin_" + hashlib.sha256(str(path).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _writing_no_bytecode() -> Iterator[None]:
    """Prevent ``__pycache__`` in the user's folders."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
