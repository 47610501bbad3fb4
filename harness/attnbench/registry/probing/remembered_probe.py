"""Cache of a plug-in's declarations, valid while nothing changes that they can depend on.

Importing torch takes seconds, and a plug-in is run far more often than its declarations change.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.machine.caches import own_cache
from attnbench.machine.kept import keep, read_kept
from attnbench.registry.found import Found, Origin, from_json, to_json
from attnbench.registry.sources import hash_of_files, library_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REMEMBERED_S = 24 * 3600
_PASSING = {"_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES"}
"""Environment variables that differ between commands; a plug-in may depend on any other one."""


def remembered(origin: Origin) -> list[Found] | None:
    """Return the declarations of a plug-in whose files are unchanged, or ``None``."""
    stored = read_kept(_path(origin), newer_than_s=_REMEMBERED_S)
    try:
        assert isinstance(stored, dict)
        found = [from_json(one) for one in stored["found"]]
        files = [file for one in found for file in one.files]
        same = all(one.origin == origin and one.source_hash == hash_of_files(one.files) for one in found)
        return found if found and same and stored["folders"] == _folders(files) else None
    except (AssertionError, ValueError, TypeError, KeyError, AttributeError, OSError):
        return None


def remember(origin: Origin, found: Sequence[Found]) -> None:
    """Store declarations if all are available and come with files; the probe says whether they depend on these only."""
    if found and all(one.files and one.unavailable is None for one in found):
        files = [file for one in found for file in one.files]
        keep(_path(origin), {"found": [to_json(one) for one in found], "folders": _folders(files)})


def _folders(files: Iterable[str]) -> dict[str, int]:
    """Return the mtimes of the files' folders: a new file there might be imported too."""
    return {str(folder): folder.stat().st_mtime_ns for folder in {Path(file).parent for file in files}}


def _path(origin: Origin) -> Path:
    installed = [folder for folder in library_folders() if folder.is_dir()]
    known = [*installed, *Path(__file__).parent.glob("*.py")]
    facts = [
        [origin.kind, origin.target, sys.executable],
        sorted([str(path), path.stat().st_mtime_ns] for path in known),
        {name: value for name, value in os.environ.items() if name not in _PASSING},
    ]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    return own_cache() / "plugins" / f"{key}.json"
