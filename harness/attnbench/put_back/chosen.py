"""Finds an implementation by name, and imports it into this process, which is the user's."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.registry.discover import ENTRY_POINT_GROUP, bundled, describe, implementations_of
from attnbench.registry.found import Origin, file_and_name
from attnbench.registry.implementation import Implementation
from attnbench.registry.importing import load_module
from attnbench.sweep.nearest import did_you_mean
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator


def chosen(implementation: str | Implementation, plugin: str | None) -> Implementation:
    """Return the given implementation, or the one with the given name: bundled, installed or from a plug-in file.

    Raises:
        UsageError: if there is none of that name, or it cannot run here.
    """
    if isinstance(implementation, Implementation):
        return implementation
    if not isinstance(implementation, str):
        raise UsageError(f"{shown(implementation)} is no implementation: a name, or what @attention(...) made")
    names: list[str] = []
    for origin in _origins(implementation, plugin):
        try:
            module = load_module(origin)
        except OSError as error:
            raise UsageError(f"plug-in {origin.target} cannot be read: {error.strerror or error}") from error
        for one in implementations_of(module):
            names.append(one.declaration.name)
            if one.declaration.name == implementation:
                _require_runnable(one, origin)
                return one
    names += [one.name for one in bundled()]
    near = did_you_mean(implementation, names)
    raise UsageError(f"there is no implementation {shown(implementation)}{near} (attnbench list implementations)")


def _origins(name: str, plugin: str | None) -> Iterator[Origin]:
    """Yield the origins that may hold an implementation of that name, the plug-in first."""
    if plugin is not None:
        yield Origin("file", str(Path(file_and_name(plugin)[0]).resolve()))
    for one in bundled():
        if one.name == name:
            yield one.origin
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            yield Origin("entry_point", entry.value)


def _require_runnable(one: Implementation, origin: Origin) -> None:
    name, module = one.declaration.name, load_module(origin) if origin.kind == "module" else None
    reason = one.refused
    if module is not None:
        reason = next((found.unavailable for found in describe(origin, module) if found.name == name), reason)
    if reason is not None:
        raise UsageError(f"{name} cannot run here: {reason}")
    if one.declaration.ranks:
        raise UsageError(f"{name} runs on several ranks, and the model is one process")
    if one.declaration.interpreter is not None:
        raise UsageError(f"{name} runs in a Python of its own, {one.declaration.interpreter}, not in this process")
