"""Versions, environment variables and the state of the checkout, without importing what they describe."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = (
    "attnbench", "torch", "numpy", "numba", "llvmlite", "scipy", "pandas", "xformers", "triton", "jax", "jaxlib",
    "flash-attn", "flash-attn-4", "flashinfer-python", "onnxruntime", "openvino",
)  # fmt: skip
_VARIABLES = (
    "OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "KMP_", "GOMP_", "TORCH_", "TRITON_", "XFORMERS_", "MALLOC_", "CUDA_VISIBLE_DEVICES",
    "PYTHONHASHSEED", "LD_PRELOAD", "CI",
)  # fmt: skip
_WHOLE = ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "LD_PRELOAD", "CI")


def software() -> dict[str, Any]:
    """Operating system, Python, versions of the distributions that matter; ``None`` for what is not installed."""
    return {
        "os": platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "variables": {name: value for name, value in sorted(os.environ.items()) if _recorded(name)},
        "command_line": Path(sys.argv[0]).name,
        "git": git_state(Path.cwd()),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _recorded(name: str) -> bool:
    """Whether a variable is on the whitelist: what can change a measurement, and nothing that could be a secret."""
    return name in _WHOLE or any(name.startswith(prefix) for prefix in _VARIABLES if prefix not in _WHOLE)


def git_state(folder: Path) -> dict[str, Any] | None:
    """Revision of the checkout that a folder is in and whether it has changes; ``None`` outside of one."""
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here, or it does not answer: the state is unknown
    return done.stdout.strip() if done.returncode == 0 else None
