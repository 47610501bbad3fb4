"""The kernels of ``triton/flash``, run by Triton's interpreter in a separate process."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench import Case, make_case
from tests.conftest import REPOSITORY
from tests.implementations.conftest import answer_of, disagreement, implementation

tuning = importlib.import_module("attnbench.implementations.triton_flash.tuning")

USUAL: dict[str, Any] = {
    "mode": "forward_backward", "heads_q": 2, "heads_kv": 1, "seqlen_q": 70, "head_dim": 24,
}  # fmt: skip
MASKS: list[dict[str, Any]] = [
    {"mask": "causal"},
    {"mask": "sliding_window", "window_left": 9, "window_right": 5},
    {"mask": "prefix_lm", "prefix_len": 30},
]
BLOCKS: list[dict[str, Any]] = [
    {"mask": "block_sparse", "mask_block_size": 16, "mask_blocks": "random:40%:1", "seqlen_q": 300, "seqlen_kv": 200},
    {"mask": "block_sparse", "mask_block_size": 16, "mask_blocks": "list:0+2+4//1+4/0/0+1+2+3+4"},
    {"mask": "causal & block_sparse", "mask_block_size": 64, "mask_blocks": "random:50%:1", "seqlen_q": 300},
    {
        "mask": "block_sparse & key_padding",
        "batch": 2,
        "kv_lengths": (20, 67),
        "mask_block_size": 8,
        "mask_blocks": "local:1:1",
    },
]
LENGTHS = [{"seqlen_q": 70, "seqlen_kv": 131}, {"seqlen_q": 131, "seqlen_kv": 70}]
DIFFERENCES: list[dict[str, Any]] = [
    {},
    *MASKS,
    *(
        {**mask, **lengths, "alignment": alignment}
        for mask, lengths, alignment in itertools.product(MASKS, LENGTHS, ("top_left", "bottom_right"))
    ),
    {"mask": "document", "document_lengths": (1, 29, 40)},
    {"mask": "document", "document_lengths": (1, 29, 40), "document_causal": True},
    {"mask": "key_padding", "batch": 2, "kv_lengths": (0, 67)},
    {"mask": "sliding_window & key_padding", "batch": 2, "kv_lengths": (33, 67), "window_left": 9, "window_right": 5},
    {"mask": "tree", "tree_parents": (-1, 0, 0, 1, 1, -1, 5, 6, 2)},
    {
        "mask": "tree & key_padding",
        "batch": 2,
        "kv_lengths": (64, 70),
        "tree_parents": (-1, 0, 0, 1),
        "score_mod": "sink",
    },
    {"mask": "tree", "tree_parents": (-1, 0, 0, 1), "seqlen_q": 4, "seqlen_kv": 300, "alignment": "bottom_right"},
    *BLOCKS,
    *({"score_mod": score_mod, "mask": "causal"} for score_mod in ("softcap", "alibi", "relative_bias", "sink")),
    {"score_mod": "softcap", "softcap": 0.5},
    {"score_mod": "alibi", "seqlen_kv": 40, "alignment": "bottom_right"},
    {"score_mod": "relative_bias", "seqlen_kv": 40},
    {"dtype": "float16"},
    {"dtype": "bfloat16", "mask": "causal"},
    {"dtype": "float8_e4m3fn", "mode": "forward", "mask": "causal"},
    {"dtype": "float8_e4m3fn", "mode": "forward", "seqlen_q": 2, "seqlen_kv": 300},
    {"heads_q": 4, "heads_kv": 4, "batch": 2},
    {"head_dim": 5, "head_dim_v": 40},
    {"head_dim": 130},
    *({"strides": strides} for strides in ("transposed", "qkv_slice", "sliced", "expanded_kv", "summed")),
    {"scale": 0.7},
    {"seqlen_q": 1},
]
FEW: dict[str, Any] = {"mode": "forward", "heads_q": 8, "heads_kv": 2, "seqlen_q": 2, "seqlen_kv": 300}
"""Decoding: keys are split among programs, and outputs are merged."""
DECODED: list[dict[str, Any]] = [
    FEW,
    {**FEW, "mask": "causal", "alignment": "bottom_right", "dtype": "bfloat16"},
    {**FEW, "mask": "causal", "alignment": "top_left"},
    {**FEW, "mask": "sliding_window", "window_left": 9, "alignment": "bottom_right"},
    {**FEW, "batch": 2, "mask": "key_padding", "kv_lengths": (0, 155)},
    *({**FEW, "score_mod": score_mod} for score_mod in ("softcap", "alibi", "relative_bias", "sink")),
    {**FEW, "batch": 2, "kv_cache": "paged", "page_size": 16, "mask": "causal", "alignment": "bottom_right"},
    {**FEW, "kv_cache": "paged", "page_size": 7, "head_dim": 40, "head_dim_v": 24, "dtype": "float16"},
    {**FEW, "kv_cache": "paged", "seqlen_q": 40, "seqlen_kv": 40, "mask": "causal"},
]
CASES = [make_case(**{**USUAL, **difference}) for difference in (*DIFFERENCES, *DECODED)]
BY_DESCRIPTOR = [
    make_case(**{**USUAL, "head_dim": 32, **difference})
    for difference in (
        {"dtype": "float16"},
        {"mask": "causal", "seqlen_kv": 131},
        {"strides": "transposed", **MASKS[1]},
        {"dtype": "float8_e4m3fn", "mode": "forward", "mask": "causal", "seqlen_kv": 131},
    )
]
"""Cases that are checked again with tiles loaded through tensor descriptors."""
LARGE_SCORES = [
    make_case(**{**USUAL, "seqlen_kv": 1, "head_dim": 1, "head_dim_v": 24, "scale": 487.3, **difference})
    for difference in ({}, {"score_mod": "alibi"}, {"score_mod": "softcap", "softcap": 500.0}, {**FEW, "seqlen_kv": 1})
]
"""The only key has a weight of 1, whatever its score; a head of one dim makes the product the same in every kernel."""


def sweep() -> list[tuple[str, int, Any]]:
    """Return every tile size of the table once: (kernel, head dim, configuration), ignoring warps and stages."""
    found = {
        (kernel, width, config.block_m, config.block_n): (kernel, width, config)
        for (kernel, width), configs in tuning.TABLE.items()
        for config in configs
    }
    return list(found.values())


def case_of(kernel: str, width: int, config: Any) -> Case:
    """Return a case with partial, full and ragged tiles of this size."""
    if kernel == "partial":
        rows = {"seqlen_q": 1 if config.block_m == 16 else 5}
        return make_case(**{**FEW, **rows, "head_dim": width, "mask": "key_padding", "kv_lengths": (290,)})
    mode = "forward" if kernel == "forward" else "backward"
    return make_case(mode=mode, heads_q=1, seqlen_q=2 * 128 + 7, seqlen_kv=128 + 9, head_dim=width, mask="causal")


def job_name(case: Case, kind: str) -> str:
    """Return a unique name that is readable in a list of tests."""
    return f"{kind}{re.sub('[ :/]', '-', case.label())}-{case.case_id[:4]}"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the outputs of all jobs."""
    folder = tmp_path_factory.mktemp("interpreted")
    jobs: list[dict[str, Any]] = [{"name": job_name(case, ""), "case": case.to_dict()} for case in CASES]
    jobs += [{"name": job_name(case, "tma-"), "case": case.to_dict(), "tma": True} for case in BY_DESCRIPTOR]
    jobs += [{"name": job_name(case, ""), "case": case.to_dict()} for case in LARGE_SCORES]
    for kernel, width, config in sweep():
        case = case_of(kernel, width, config)
        name = job_name(case, f"{kernel}-{config.block_m}x{config.block_n}-")
        jobs.append({"name": name, "case": case.to_dict(), "configs": {kernel: dataclasses.astuple(config)}})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.implementations.interpreted", str(folder / "jobs.json"), str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def expect_agreement(case: Case, path: Path) -> None:
    with np.load(path) as found:
        assert set(found) == ({"out", "lse", "dq", "dk", "dv"} if case.needs_gradients else {"out", "lse"})
        assert disagreement(case, dict(found), answer_of(case)) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: job_name(case, ""))
def test_it_agrees_with_the_definition(case: Case, outputs: Path) -> None:
    expect_agreement(case, outputs / f"{job_name(case, '')}.npz")


@pytest.mark.parametrize("case", BY_DESCRIPTOR, ids=lambda case: job_name(case, ""))
def test_it_agrees_when_tiles_come_through_tensor_descriptors(case: Case, outputs: Path) -> None:
    expect_agreement(case, outputs / f"{job_name(case, 'tma-')}.npz")


@pytest.mark.parametrize("case", LARGE_SCORES, ids=lambda case: job_name(case, ""))
def test_the_backward_pass_finds_the_weights_of_large_scores_again(case: Case, outputs: Path) -> None:
    """Converting the LSE to the units of scores would round it, and so every weight."""
    with np.load(outputs / f"{job_name(case, '')}.npz") as found:
        answer = answer_of(case)
        assert np.abs(answer.lse).max() > 100
        np.testing.assert_allclose(found["lse"], answer.lse, rtol=5e-7)
        np.testing.assert_allclose(found["out"], answer.out, rtol=0, atol=1e-7)
        if case.needs_gradients:
            np.testing.assert_allclose(found["dv"], answer.dv, rtol=0, atol=4e-6)


@pytest.mark.parametrize(("kernel", "width", "config"), sweep(), ids=lambda part: str(part).replace(" ", "-"))
def test_every_tile_size_agrees_not_only_the_one_that_is_chosen(
    kernel: str, width: int, config: Any, outputs: Path
) -> None:
    case = case_of(kernel, width, config)
    expect_agreement(case, outputs / f"{job_name(case, f'{kernel}-{config.block_m}x{config.block_n}-')}.npz")


def refusal(device: str = "cpu", **fields: Any) -> str | None:
    """Return the reason for refusing a case, or ``None``."""
    one = implementation("triton_flash", "triton/flash")
    assert one.supports_hook is not None
    return one.supports_hook(make_case(**fields), device)


def test_problems_too_large_for_the_interpreter_are_refused_on_the_cpu() -> None:
    assert refusal(heads_q=4, seqlen_q=512) is None
    reason = refusal(heads_q=4, seqlen_q=513)
    assert reason is not None
    assert "1,052,676 query-key pairs" in reason


def test_heads_wider_than_a_tile_are_refused() -> None:
    assert refusal(seqlen_q=64, head_dim=256) is None
    assert refusal(seqlen_q=64, head_dim_v=257) == "its tiles hold whole heads, of at most 256 dims"


def test_more_heads_than_a_grid_has_rows_are_refused_on_a_gpu() -> None:
    assert refusal("cuda", batch=2**11 - 1, heads_q=32, seqlen_q=16) is None
    assert "at most 65,535" in str(refusal("cuda", batch=2**11, heads_q=32, seqlen_q=16))


def test_an_interpreter_that_this_numpy_breaks_is_refused_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"triton": "3.6.0", "numpy": "2.4.0rc1"}
    monkeypatch.setattr(importlib.import_module("attnbench.implementations.triton_flash"), "version", found.__getitem__)
    assert "Triton 3.6 fails with NumPy 2.4" in str(refusal(seqlen_q=16))
    assert refusal("cuda", seqlen_q=16) is None
    found["numpy"] = "2.3.5"
    assert refusal(seqlen_q=16) is None


def test_a_process_that_has_imported_triton_already_is_told_what_to_do() -> None:
    program = (
        "import importlib, triton\n"
        "module = importlib.import_module('attnbench.implementations.triton_flash.plan')\n"
        "module.load('tiles', interpreted=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: Triton was imported by this process before" in done.stderr
