"""Importing implementations loads no heavy library, as a listing imports all of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from attnbench.registry.discover import bundled
from attnbench.registry.found import Found

MODULES = sorted({found.origin.target for found in bundled()})
HEAVY = ("torch", "numba", "triton", "xformers", "pandas", "scipy", "jax")


PROGRAM = f"""
import importlib, json, sys
loaded = {{}}
for module in {MODULES!r}:
    importlib.import_module(module)
    loaded[module] = sorted({set(HEAVY)!r} & set(sys.modules))
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Return the heavy libraries loaded after each module, in a process that imports one after another."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_loads_no_heavy_library(module: str, loaded: dict[str, list[str]]) -> None:
    assert loaded[module] == []


@pytest.mark.parametrize("found", bundled(), ids=lambda found: found.name)
def test_it_says_in_one_line_what_it_is(found: Found) -> None:
    assert found.declaration is not None
    summary = found.declaration.summary
    assert summary.endswith(".")
    assert len(summary) < 120
