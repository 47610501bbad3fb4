"""The kernel of ``triton/flash``, run by Triton's interpreter in a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench import Case, make_case
from tests.conftest import REPOSITORY
from tests.implementations.conftest import answer_of, disagreement, implementation

USUAL = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 70, "head_dim": 24}
MASKS: list[dict[str, Any]] = [
    {"mask": "causal"},
    {"mask": "sliding_window", "window_left": 9, "window_right": 5},
    {"mask": "prefix_lm", "prefix_len": 30},
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
    {"mask": "key_padding", "kv_lengths": (0, 67)},
    {"dtype": "float16"},
    {"heads_kv": 4},
    {"heads_kv": 1},
    {"head_dim": 5, "head_dim_v": 40},
    {"head_dim": 130},
    {"seqlen_q": 1, "seqlen_kv": 131},
    *({"strides": strides} for strides in ("transposed", "qkv_slice", "sliced", "expanded_kv")),
    {"scale": 0.7},
]
CASES = [make_case(**{**USUAL, **difference}) for difference in DIFFERENCES]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of all cases."""
    folder = tmp_path_factory.mktemp("interpreted")
    (folder / "cases.json").write_text(json.dumps([case.to_dict() for case in CASES]))
    command = [sys.executable, "-m", "tests.implementations.interpreted", str(folder / "cases.json"), str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.label().replace(' ', '-')}-{case.case_id[:4]}")
def test_it_agrees_with_the_definition(case: Case, outputs: Path) -> None:
    with np.load(outputs / f"{case.case_id}.npz") as found:
        assert set(found) == {"out", "lse"}
        assert disagreement(case, dict(found), answer_of(case)) is None


def refusal(**fields: Any) -> str | None:
    """What it says to a case on a CPU."""
    one = implementation("triton_flash", "triton/flash")
    assert one.supports_hook is not None
    return one.supports_hook(make_case(**fields), "cpu")


def test_problems_too_large_for_the_interpreter_are_refused_on_the_cpu() -> None:
    assert refusal(heads_q=8, seqlen_q=512) is None
    reason = refusal(heads_q=8, seqlen_q=513)
    assert reason is not None
    assert "2,105,352 query-key pairs" in reason


def test_bfloat16_is_refused_where_the_interpreter_would_get_it_wrong() -> None:
    reason = refusal(dtype="bfloat16", seqlen_q=16)
    assert reason is not None
    assert "bfloat16" in reason


def test_a_process_that_has_imported_triton_already_is_told_what_to_do() -> None:
    program = (
        "import importlib, triton\n"
        "module = importlib.import_module('attnbench.implementations.triton_flash')\n"
        "module.load_kernel(interpreted=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: Triton was imported by this process before" in done.stderr
