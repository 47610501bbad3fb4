"""Sources of implementations: bundled modules, entry points, and the user's files.

Bundled modules are light and are imported here. Plug-ins are third-party code, so the process that plans a run never
imports them: a probe process does, and returns their declarations as data.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.registry.found import Found, Origin, RegistryError, file_and_name
from attnbench.registry.implementation import Implementation
from attnbench.registry.importing import load_module
from attnbench.registry.probing.ask_probe import ask_probe
from attnbench.registry.signature import HookError
from attnbench.registry.sources import hash_of_files
from attnbench.untrusted.printable import in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

ENTRY_POINT_GROUP = "attnbench.implementations"
_BUNDLED = "attnbench.implementations"
UNKNOWN = "unknown/"
"""Family of plug-ins that cannot be imported; the file's name follows."""


def find(
    plugins: Sequence[str] = (),
    *,
    load_entry_points: bool = True,
    say: Callable[[str], object] = lambda sentence: None,
) -> list[Found]:
    """Return all implementations, sorted by name.

    ``plugins`` are named as on the command line. Without ``load_entry_points``, installed plug-ins are listed but not
    probed. ``say`` shows a message if a plug-in takes long to import.

    Raises:
        RegistryError: if two sources give the same name, or a plug-in file cannot be read or defines nothing.
    """
    found = [*bundled(), *_installed(say, load=load_entry_points)]
    for plugin in plugins:
        found += from_file(plugin, say)
    sources: dict[str, Origin] = {}
    for one in found:
        if one.name in sources and not one.name.startswith(UNKNOWN):
            raise RegistryError(f"{one.name!r} is registered twice: by {sources[one.name]} and by {one.origin}")
        sources[one.name] = one.origin
    return sorted(found, key=lambda one: one.name)


def bundled() -> list[Found]:
    """Return the implementations that come with attnbench."""
    return _within(_BUNDLED)


def _within(package: str) -> list[Found]:
    """Return the implementations of a package's modules; packages that declare none are searched recursively."""
    found = []
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        origin = Origin("module", f"{package}.{info.name}")
        declared = describe(origin, load_module(origin))
        found += declared if declared or not info.ispkg else _within(origin.target)
    return found


def from_file(plugin: str, say: Callable[[str], object] = lambda sentence: None) -> list[Found]:
    """Return the implementations of ``file.py``, or the one named by ``file.py:family/variant`` (or with ``::``).

    A file that raises during import gives one unavailable entry, with the exception as its reason.

    Raises:
        RegistryError: if the file cannot be read, is not Python, or does not define the named implementation.
    """
    path_text, only = file_and_name(plugin)
    path = Path(path_text).resolve()
    try:
        if path.exists() and not path.is_file():
            raise RegistryError(f"plug-in {path_text} is no regular file")
        compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise RegistryError(f"plug-in {path_text} cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RegistryError(f"plug-in {path_text} is not Python: {error}") from error
    origin = Origin("file", str(path))
    found = ask_probe(origin, only or f"{UNKNOWN}{path.stem.lower().replace('_', '-')}", say)
    if not found:
        raise RegistryError(f"plug-in {path_text} defines no implementation: decorate a function with @attention(...)")
    if only and not [one for one in found if one.name == only]:
        names = ", ".join(one.name for one in found)
        raise RegistryError(f"plug-in {path_text} does not define {only!r}; it defines {names}")
    return [one for one in found if not only or one.name == only]


def _installed(say: Callable[[str], object], *, load: bool) -> list[Found]:
    found = []
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        origin = Origin("entry_point", entry.value)
        if load:
            found += ask_probe(origin, entry.name, say)
        else:
            version = entry.dist.version if entry.dist else None
            found.append(Found(name=entry.name, origin=origin, version=version))
    return found


def implementations_of(module: ModuleType) -> list[Implementation]:
    """Return every implementation in a module's namespace, once each, in the order of definition."""
    unique = {id(value): value for value in vars(module).values() if isinstance(value, Implementation)}
    return list(unique.values())


def describe(origin: Origin, module: ModuleType, read: Iterable[str] = ()) -> list[Found]:
    """Describe the implementations of an imported module; for a plug-in, ``read`` are the files read by its import."""
    attribute = origin.target.partition(":")[2] if origin.kind == "entry_point" else ""
    files: tuple[str, ...] = ()
    if origin.kind != "module":
        files = tuple(sorted({*read, *map(str, _sources(module.__file__))}))
    source_hash = hash_of_files(files) or hash_of_source(module.__file__)
    return [
        Found(
            name=one.declaration.name,
            origin=origin,
            declaration=one.declaration,
            version=_version(origin),
            source_hash=source_hash,
            unavailable=_unavailable(one),
            files=files,
        )
        for one in implementations_of(module)
        if not attribute or one is getattr(module, attribute, None)
    ]


def hash_of_source(file: str | None) -> str | None:
    """Return the SHA-256 of a module's source, or of all sources of a package, as twelve digits."""
    sources = _sources(file)
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12] if sources else None


def _sources(file: str | None) -> list[Path]:
    if file is None:
        return []
    path = Path(file).resolve()
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]


def _version(origin: Origin) -> str | None:
    if origin.kind == "file":
        return None
    distributions = metadata.packages_distributions() if origin.kind == "entry_point" else {}
    package = origin.target.partition(".")[0].partition(":")[0]
    names = distributions.get(package, [package])
    try:
        return metadata.version(names[0])
    except metadata.PackageNotFoundError:
        return None


def _unavailable(one: Implementation) -> str | None:
    """Return the first requirement that this machine does not meet, or ``None``; nothing is imported."""
    if one.refused:
        return one.refused
    from attnbench.machine.hardware.devices import device_unavailable

    reasons = [device_unavailable(device) for device in one.declaration.devices]
    if reasons and all(reasons):
        return reasons[0]
    missing = unmet(one.declaration.requires)
    if missing or one.available_hook is None:
        return missing
    try:
        return one.available_hook()
    except HookError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the hook is somebody else's, and what it raises is its answer
        return f"its hook 'available' raised {type(error).__name__}: {in_one_line(str(error))}"


def unmet(requires: Iterable[str]) -> str | None:
    """Return a sentence on the first requirement that installed distributions do not meet, or ``None``."""
    from packaging.requirements import Requirement

    for text in requires:
        requirement = Requirement(text)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return f"{requirement.name} is not installed (it needs {text})"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement.name} {version} is installed, but it needs {text}"
    return None
