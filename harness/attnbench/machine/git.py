"""The state of the checkout that a measurement was started from."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def git_state(folder: Path) -> dict[str, object] | None:
    """Revision of the checkout that a folder is in; ``None`` outside of one, or without git.

    Returns:
        ``revision``, and ``dirty``: whether files that git tracks were changed, ``None`` where git would not say.
    """
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Without its optional locks it stays out of the way of whoever else uses the checkout.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here, or it does not answer: the state is unknown
    return done.stdout.strip() if done.returncode == 0 else None
