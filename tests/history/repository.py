"""A git repository with a plug-in kernel, whose commits tests define."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "kernels"
version = "1"

[tool.setuptools]
py-modules = []

[tool.attnbench]
plugins = ["kernel.py"]
"""
KERNEL = """
import numpy as np
from attnbench import attention

@attention("mine/plain", framework="numpy", dtypes=["float32"])
def plain(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * case.scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v
"""


class Repository:
    """A repository with commits, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / ".gitignore").write_text("results/\nreports/\ncache/\n")

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in WHO.items()}
        command = ["git", "-c", "commit.gpgsign=false", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True, env={**os.environ, **who}
        )
        return done.stdout.strip()

    def commit(self, subject: str, **files: str) -> str:
        """Commit files, given by name (without the suffix for Python), and return the revision."""
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        self.commits.append(self.git("rev-parse", "HEAD"))
        return self.commits[-1]


WHO = {"NAME": "A", "EMAIL": "a@example.org", "DATE": "2026-11-01T12:00:00+00:00"}
