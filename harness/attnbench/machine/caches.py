"""Where libraries keep what they compile, for users who have no home that can be written to."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

_VARIABLES = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def own_cache() -> Path:
    """The folder for what attnbench may lose: $ATTNBENCH_CACHE, or attnbench/ in the user's cache directory (XDG)."""
    named = os.environ.get("ATTNBENCH_CACHE")
    return Path(named) if named else _home_cache() / "attnbench"


def cache_variables() -> dict[str, str]:
    """Environment variables that send what is compiled to a temporary folder, where the home cannot be written to.

    Numba does not compile at all without a place for its cache. Variables that the user has set are left as they are.
    """
    if _can_be_made(_home_cache()):
        return {}
    return {name: str(_temporary() / name.partition("_")[0].lower()) for name in _VARIABLES if not os.environ.get(name)}


def warning() -> str | None:
    """A sentence for people where a temporary folder stands in, or ``None``."""
    if not cache_variables():
        return None
    return (
        f"{_home_cache()} cannot be written to: what is compiled is kept in {_temporary()} (set HOME or XDG_CACHE_HOME)"
    )


def _home_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - Path's raises without a home


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there and can be written to, or could be made."""
    if not folder.is_absolute():  # a user without a home at all
        return False
    for path in (folder, *folder.parents):
        if path.exists():
            return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    return False


@functools.cache
def _temporary() -> Path:
    """A folder of this user alone: what lies in it is executed."""
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
