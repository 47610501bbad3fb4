"""An implementation in the registry, as data that a probe sends and a run's header keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnbench.errors import UsageError
from attnbench.registry.implementation import Declaration

if TYPE_CHECKING:
    from collections.abc import Mapping


class RegistryError(UsageError):
    """The requested set of implementations is not usable: a usage error, exit code 2."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """How a worker can import an implementation."""

    kind: Literal["module", "file", "entry_point"]
    target: str
    """Module name, path of a file, or ``module:attribute``."""

    def __str__(self) -> str:
        """Describe the origin for a message."""
        return {"module": "module ", "file": "file ", "entry_point": "entry point "}[self.kind] + self.target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An implementation in the registry, as data without code."""

    name: str
    origin: Origin
    declaration: Declaration | None = None
    """``None`` if it could not be obtained (see ``unavailable``), or was not requested for a listing."""
    version: str | None = None
    source_hash: str | None = None
    unavailable: str | None = None
    """Why it cannot run on this machine, or ``None``."""
    files: tuple[str, ...] = ()
    """Files of a plug-in that ``source_hash`` covers; empty for other implementations."""
    ranks: int | None = None
    """Number of ranks that it runs on; ``None`` unless it runs on several."""

    def on(self, ranks: int) -> Found:
        """Return the implementation on a number of ranks, as a separate entry ``family/variant@RANKS``."""
        return dataclasses.replace(self, name=f"{self.name}@{ranks}", ranks=ranks)

    @property
    def stores_scores(self) -> bool:
        """Whether its declaration says so."""
        return self.declaration is not None and self.declaration.stores_scores

    @property
    def plugin(self) -> str | None:
        """The file that a command line must name, or ``None`` if the implementation is found without it."""
        return self.origin.target if self.origin.kind == "file" else None


def to_json(found: Found) -> dict[str, object]:
    """Return a JSON-ready form, for the probe's answer and a run's header."""
    return dataclasses.asdict(found)


def from_json(values: Mapping[str, Any]) -> Found:
    """Rebuild an implementation from the result of :func:`to_json`."""
    declaration = None
    if values["declaration"] is not None:
        said: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["declaration"].items()}
        declaration = Declaration(**said)
    files = tuple(values.get("files", ()))
    return Found(**{**values, "origin": Origin(**values["origin"]), "declaration": declaration, "files": files})


def file_and_name(plugin: str) -> tuple[str, str]:
    """Split a plug-in into its file and the named implementation, empty if none; the path may contain colons.

    Accepts ``FILE.py``, ``FILE.py:family/variant`` and ``FILE.py::family/variant``.
    """
    if Path(plugin).exists():
        return plugin, ""
    for sign in ("::", ".py:", ":"):
        path, found, name = plugin.rpartition(sign)
        if found:
            return path + sign.rstrip(":"), name
    return plugin, ""
