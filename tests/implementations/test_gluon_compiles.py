"""``gluon/flash`` compiles for Hopper without a GPU, by Triton's own compiler; see test_triton_compiles.py."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
from packaging.version import Version

from tests.implementations.conftest import compiled_for_hopper

OLDEST = Version("3.6")


def lacking() -> str | None:
    """Return why nothing can be compiled here, or ``None``."""
    try:
        found = Version(version("triton"))
    except PackageNotFoundError:
        return "Triton is not installed"
    return f"Gluon as it is used here came with Triton {OLDEST}; this is {found}" if found < OLDEST else None


pytestmark = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))

JOBS: dict[str, dict[str, Any]] = {
    "full-128": {"head_dim": 128, "causal": False},
    "causal-128": {"head_dim": 128, "causal": True},
    "full-64": {"head_dim": 64, "causal": False, "variant": {"consumers": 3}},
    "causal-64-float16": {
        "head_dim": 64, "causal": True, "dtype": "float16", "variant": {"consumers": 3, "turns": True},
    },
    "turns": {"head_dim": 128, "causal": True, "variant": {"turns": True}},
    "three-stages": {"head_dim": 128, "causal": False, "variant": {"stages": 3, "turns": True}},
    "three-consumers": {
        "head_dim": 128, "causal": True, "variant": {"consumers": 3, "block_n": 64, "stages": 3, "turns": True},
    },
    "in-turn": {"head_dim": 128, "causal": True, "variant": {"overlap": False}},
    "one-group": {"head_dim": 128, "causal": True, "variant": {"specialised": False}},
    "plain": {"head_dim": 128, "causal": False, "variant": {"specialised": False, "overlap": False}},
}  # fmt: skip
OVERLAPPED = ("full-128", "causal-128", "full-64", "causal-64-float16", "turns", "three-stages")
ONE_ROLE = {"one-group", "plain"}
MOST_SPILLED_BYTES = {"three-consumers": 40, "full-64": 112, "causal-64-float16": 176}
"""Bytes that a thread may spill, by Triton's assembler (3.7, 3.9). On an H200 three consumers beat two."""
MOST_SHARED_BYTES = 227 * 2**10


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the compiled kernel of each job."""
    return compiled_for_hopper("gluon_for_hopper", JOBS, tmp_path_factory.mktemp("hopper"))


@pytest.mark.parametrize("name", JOBS)
def test_it_fits_uses_hoppers_instructions_and_nothing_is_serialized(
    name: str, kernels: dict[str, dict[str, Any]]
) -> None:
    kernel = kernels[name]
    assert kernel["shared_bytes"] <= MOST_SHARED_BYTES
    assert kernel["spilled_bytes"] <= MOST_SPILLED_BYTES.get(name, 0)
    assert kernel["wgmma"] > 0
    assert kernel["tma"] > 0
    assert not kernel["serialized"]
    assert (kernel["setmaxnreg"] == 0) == (name in ONE_ROLE)


@pytest.mark.parametrize("name", OVERLAPPED)
def test_the_softmax_of_a_block_stays_beside_the_products_of_the_one_before(
    name: str, kernels: dict[str, dict[str, Any]]
) -> None:
    assert kernels[name]["weights_beside_products"] >= 64, "of a thread: 64 rows x 128 keys / 128 threads"
