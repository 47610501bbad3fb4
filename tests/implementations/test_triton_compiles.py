"""The kernels of ``triton/flash`` compile for Hopper, by Triton's own compiler, on a machine without a GPU.

These checks need no GPU: the code is valid Triton (its interpreter accepts more), matrix products use Hopper's own
instructions, tiles are loaded by its copy engine, and registers and memory suffice.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import sys
from typing import Any

import pytest

from tests.implementations.conftest import compiled_for_hopper

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Triton is for Linux")

tuning = importlib.import_module("attnbench.implementations.triton_flash.tuning")

LARGE: dict[str, Any] = {"heads_q": 16, "heads_kv": 2, "seqlen_q": 4096, "head_dim": 128, "dtype": "bfloat16"}
JOBS: dict[str, dict[str, Any]] = {
    "full-128": {"case": LARGE, "tma": True},
    "causal-64": {"case": {**LARGE, "head_dim": 64, "mask": "causal"}, "tma": True},
    "causal-backward-128": {"case": {**LARGE, "mask": "causal", "mode": "backward"}, "tma": True},
    "float8": {"case": {**LARGE, "dtype": "float8_e4m3fn"}, "tma": True},
    "bfloat16-in-large-tiles": {"case": LARGE, "tma": True, "configs": {"forward": [128, 128, 8, 2]}},
    "float8-in-large-tiles": {
        "case": {**LARGE, "dtype": "float8_e4m3fn"}, "tma": True, "configs": {"forward": [128, 128, 8, 2]},
    },
    "wide-heads": {"case": {**LARGE, "head_dim": 256, "mask": "causal"}, "tma": True},
    "float32": {"case": {**LARGE, "head_dim": 64, "dtype": "float32"}, "tma": False},
    "odd-heads-listed-mask": {
        "case": {**LARGE, "head_dim": 80, "head_dim_v": 40, "mask": "prefix_lm", "score_mod": "softcap",
                 "mode": "backward", "dtype": "float16"},
        "tma": False,
    },
    "blocks": {
        "case": {**LARGE, "seqlen_q": 1024, "mask": "causal & block_sparse", "mode": "backward"}, "tma": True,
    },
    "tree-float32": {
        "case": {**LARGE, "seqlen_q": 8, "seqlen_kv": 1000, "dtype": "float32", "head_dim": 64, "mask": "tree",
                 "alignment": "bottom_right", "mode": "backward"},
        "tma": False,
    },
    "alibi": {"case": {**LARGE, "head_dim": 64, "score_mod": "alibi"}, "tma": False},
    "relative-bias": {"case": {**LARGE, "head_dim": 64, "score_mod": "relative_bias"}, "tma": True},
    "decode": {"case": {**LARGE, "seqlen_q": 1, "seqlen_kv": 32768, "score_mod": "sink"}, "tma": False},
    "decode-paged": {"case": {**LARGE, "seqlen_q": 1, "seqlen_kv": 32768, "kv_cache": "paged"}, "tma": False},
}  # fmt: skip


def every_tile_size() -> dict[str, dict[str, Any]]:
    """Return a job for each entry of the table, width and dtype."""
    jobs: dict[str, dict[str, Any]] = {}
    dtypes = (("float8_e4m3fn", 1), ("bfloat16", 2), ("float32", 4))
    for (dtype, size), width, place in itertools.product(dtypes, (64, 128, 256), range(3)):
        dense = {"mask": "causal", "mode": "forward" if size == 1 else "forward_backward"}
        decode = {"seqlen_q": 1, "seqlen_kv": 32768}
        for lengths, kernels in ((dense, ("forward", "dk_dv", "dq")), (decode, ("partial",))):
            found = {kernel: tuning.candidates(kernel, width, width, size) for kernel in kernels}
            sizes = {kernel: dataclasses.astuple(row[place]) for kernel, row in found.items() if place < len(row)}
            if sizes:
                case = {**LARGE, "head_dim": width, "dtype": dtype, **lengths}
                name = f"{dtype}-{width}-{kernels[0]}-{place}"
                jobs[name] = {"case": case, "tma": True, "configs": sizes}
    return jobs


if "EVERY_TILE_SIZE" in os.environ:  # make gpu-rehearsal: this takes minutes
    JOBS |= every_tile_size()
BY_WGMMA = {"full-128", "causal-64", "causal-backward-128", "float8", "wide-heads", "blocks"}
MOST_SHARED_BYTES = 227 * 2**10
"""Shared memory of a block (CUDA C++ Programming Guide, "Compute Capabilities", 9.0)."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return the compiled kernels of each job."""
    return compiled_for_hopper(
        "for_hopper",
        JOBS,
        tmp_path_factory.mktemp("hopper"),
    )


@pytest.mark.parametrize("name", JOBS)
def test_it_compiles_and_fits_into_shared_memory(name: str, kernels: dict[str, list[dict[str, Any]]]) -> None:
    assert kernels[name]
    assert all(kernel["shared_bytes"] <= MOST_SHARED_BYTES for kernel in kernels[name])


@pytest.mark.parametrize("name", sorted(BY_WGMMA))
def test_products_and_loads_are_hoppers_own_and_registers_suffice(
    name: str, kernels: dict[str, list[dict[str, Any]]]
) -> None:
    for kernel in kernels[name]:
        if kernel["kernel"] != "deltas":
            assert kernel["wgmma"] > 0, kernel
            assert kernel["tma"] > 0, kernel
            # dK and dV hold two sums at once: with grouped heads 328 bytes of each thread go to memory, and these
            # tiles are the fastest all the same (docs/gpu.md, "Tuning", step 7).
            assert kernel["spilled_bytes"] <= (328 if kernel["kernel"] == "dk_dv" else 0), kernel


def test_a_full_mask_costs_no_second_loop(kernels: dict[str, list[dict[str, Any]]]) -> None:
    (full,), (causal,) = kernels["full-128"], kernels["wide-heads"]
    assert full["tma"] < causal["tma"], "the loop over the mask's edge has loads of its own"


def test_float8_takes_half_the_instructions_and_v_is_not_transposed_on_the_way(
    kernels: dict[str, list[dict[str, Any]]],
) -> None:
    (float8,), (bfloat16,) = kernels["float8-in-large-tiles"], kernels["bfloat16-in-large-tiles"]
    assert float8["wgmma"] == bfloat16["wgmma"] / 2, "an instruction takes twice as many float8 numbers"
    assert float8["shared_stores"] <= bfloat16["shared_stores"], "V would go through registers"
