"""Operating system, Python, versions and environment variables, without importing what is described."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DISTRIBUTIONS = (
    *("attnbench", "torch", "numpy", "numba", "llvmlite", "scipy", "pandas", "xformers", "triton", "jax", "jaxlib"),
    *("flash-attn", "flash-attn-4", "flashinfer-python", "onnxruntime", "openvino", "nvidia-cudnn-cu12", "tbb"),
)
# Variables that can change a measurement, none of which could hold a secret.
_PREFIXES = (
    *("OMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMBA_", "KMP_", "GOMP_", "GOTO_", "DNNL_", "ONEDNN_"),
    *("TORCH_", "PYTORCH_", "TORCHINDUCTOR_", "ATEN_", "TRITON_", "XFORMERS_", "MALLOC_"),
)
_NAMES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING"),
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "GLIBC_TUNABLES", "LD_PRELOAD", "XLA_FLAGS"),
    *("PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONOPTIMIZE", "CI"),
)
_COMPILERS = ("c++", "g++", "clang++", "cl")


def software() -> dict[str, object]:
    """Describe operating system, Python, compiler and versions of distributions; not installed is ``None``."""
    return {
        "os": platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "cxx_compiler": next((name for name in _COMPILERS if shutil.which(name)), None),
        "versions": {name: version_of(name) for name in _DISTRIBUTIONS},
        "variables": recorded_variables(os.environ),
        "git": git_state(Path.cwd()),
    }


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, or ``None``."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def recorded_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that can change a measurement, from a fixed list."""
    return {name: value for name, value in sorted(variables.items()) if name in _NAMES or name.startswith(_PREFIXES)}


def extras(distribution: str = "attnbench") -> dict[str, dict[str, str | None]]:
    """Return by extra the versions of the distributions that it needs on this system, ``None`` if not installed.

    Returns:
        For example ``{"report": {"jinja2": "3.1.6", "pyarrow": None}}``; empty if ``distribution`` is not installed.
    """
    from packaging.requirements import Requirement

    try:
        about = metadata.metadata(distribution)
    except metadata.PackageNotFoundError:
        return {}
    wanted = [Requirement(text) for text in about.get_all("Requires-Dist") or ()]
    return {
        extra: {
            one.name: version_of(one.name)
            for one in wanted
            if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
        }
        for extra in about.get_all("Provides-Extra") or ()
    }


def git_state(folder: Path) -> dict[str, object] | None:
    """Describe the git checkout that a folder is in; ``None`` outside one, or without git.

    Returns:
        ``revision``, and ``dirty``: whether tracked files were changed, ``None`` if git fails.
    """
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Without optional locks git does not get in the way of others who use the checkout.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # git is missing or does not answer
    return done.stdout.strip() if done.returncode == 0 else None
