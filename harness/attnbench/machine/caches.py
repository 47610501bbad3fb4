"""Folders for compiled code and other caches, also for users without a writable home."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

_VARIABLES = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def own_cache() -> Path:
    """Return the folder of attnbench's caches: $ATTNBENCH_CACHE, or attnbench/ in the user's cache directory (XDG)."""
    named = os.environ.get("ATTNBENCH_CACHE")
    return Path(named) if named else _home_cache() / "attnbench"


def cache_variables() -> dict[str, str]:
    """Return environment variables that move compiler caches to a temporary folder if the home is not writable.

    Numba does not compile at all without a cache folder. Variables that the user has set are kept.
    """
    if _can_be_made(_home_cache()):
        return {}
    return {name: str(_temporary() / name.partition("_")[0].lower()) for name in _VARIABLES if not os.environ.get(name)}


def warning() -> str | None:
    """Return a message if a temporary folder replaces the home's cache, else ``None``."""
    if not cache_variables():
        return None
    return (
        f"{_home_cache()} cannot be written to: what is compiled is kept in {_temporary()} (set HOME or XDG_CACHE_HOME)"
    )


def _home_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - Path's raises without a home


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is writable, or could be created."""
    if not folder.is_absolute():  # the user has no home at all
        return False
    for path in (folder, *folder.parents):
        if path.exists():
            return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    return False


@functools.cache
def _temporary() -> Path:
    """Return a folder that only this user can write to, since code in it is executed."""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"attnbench-cache-{uid}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="attnbench-cache-"))
    if not folder.is_dir() or folder.is_symlink() or about.st_uid != uid or about.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix="attnbench-cache-"))
    return folder
