"""Importing the implementations loads nothing heavy: a listing imports them all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnbench.registry.discover import Found, bundled

MODULES = sorted({found.origin.target for found in bundled()})
HEAVY = ("torch", "numba", "triton", "xformers", "pandas", "scipy", "jax")


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    program = f"import importlib, sys; importlib.import_module({module!r}); print(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("found", bundled(), ids=lambda found: found.name)
def test_it_says_in_one_line_what_it_is(found: Found) -> None:
    assert found.declaration is not None
    summary = found.declaration.summary
    assert summary.endswith(".")
    assert len(summary) < 120
