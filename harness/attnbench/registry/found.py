"""An implementation as the registry knows it: data, which a probe sends and a run's header keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnbench.errors import UsageError
from attnbench.registry.implementation import Declaration

if TYPE_CHECKING:
    from collections.abc import Mapping


class RegistryError(UsageError):
    """The set of implementations is not usable as asked for: a usage error, exit code 2."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """How a worker gets at an implementation."""

    kind: Literal["module", "file", "entry_point"]
    target: str
    """Module name, path of a file, or ``module:attribute``."""

    def __str__(self) -> str:
        """The place in words."""
        return {"module": "module ", "file": "file ", "entry_point": "entry point "}[self.kind] + self.target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An implementation as the registry knows it: all data, no code."""

    name: str
    origin: Origin
    declaration: Declaration | None = None
    """``None`` where it could not be had (``unavailable`` says why), or was not asked for in a mere listing."""
    version: str | None = None
    source_hash: str | None = None
    unavailable: str | None = None
    """Why it cannot run on this machine, or ``None``."""
    files: tuple[str, ...] = ()
    """The files of a plug-in of which ``source_hash`` is the hash; else empty."""
    ranks: int | None = None
    """On how many ranks it runs, where it runs on several."""

    def on(self, ranks: int) -> Found:
        """The same on so many ranks: an entry of its own, ``family/variant@RANKS``."""
        return dataclasses.replace(self, name=f"{self.name}@{ranks}", ranks=ranks)

    @property
    def stores_scores(self) -> bool:
        """Whether it declares so."""
        return self.declaration is not None and self.declaration.stores_scores

    @property
    def plugin(self) -> str | None:
        """The file that a command line must name, or ``None`` where it finds the implementation by itself."""
        return self.origin.target if self.origin.kind == "file" else None


def to_json(found: Found) -> dict[str, object]:
    """JSON-ready form of a description, for the probe's answer and a run's header."""
    return dataclasses.asdict(found)


def from_json(values: Mapping[str, Any]) -> Found:
    """A description from what :func:`to_json` made of it."""
    declaration = None
    if values["declaration"] is not None:
        said: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["declaration"].items()}
        declaration = Declaration(**said)
    files = tuple(values.get("files", ()))
    return Found(**{**values, "origin": Origin(**values["origin"]), "declaration": declaration, "files": files})


def file_and_name(plugin: str) -> tuple[str, str]:
    """The file and the implementation that is asked for, or an empty text; a path may hold colons.

    ``FILE.py``, ``FILE.py:family/variant`` and ``FILE.py::family/variant`` are understood.
    """
    if Path(plugin).exists():
        return plugin, ""
    for sign in ("::", ".py:", ":"):
        path, found, name = plugin.rpartition(sign)
        if found:
            return path + sign.rstrip(":"), name
    return plugin, ""
