"""Back ends for GPUs that cannot run here: declarations, reasons why they are unavailable, and passed arguments.

The results of their libraries are not tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

from attnbench import Case, make_case
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.registry.discover import bundled
from tests.conftest import REPOSITORY
from tests.implementations.conftest import answer_of, disagreement, implementation

MODULES = {
    "flash-attn/4": "peers.flash_attn_4",
    "flash-attn/3-fwd": "peers.fa3_fwd",
    "sage/triton": "peers.sage_attention",
    "flashinfer/prefill": "peers.flashinfer_attention",
    "flashinfer/decode": "peers.flashinfer_attention",
    "cudnn/frontend": "peers.cudnn_frontend",
    "torch/varlen": "pytorch.varlen",
    "jax/cudnn": "peers.jax_attention",
    "jax/xla": "peers.jax_attention",
}
EXTRAS = {
    "flash-attn/4": "fa4", "flash-attn/3-fwd": "fa3", "sage/triton": "sage", "flashinfer/prefill": "flashinfer",
    "cudnn/frontend": "cudnn", "jax/cudnn": "jax-gpu",
}  # fmt: skip

USUAL: dict[str, Any] = {
    "batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 9, "head_dim": 64, "dtype": "float16", "scale": 0.3,
}  # fmt: skip
CAUSAL = {"mask": "causal"}
LATER = {**CAUSAL, "seqlen_kv": 14, "alignment": "bottom_right"}
WINDOW = {"mask": "sliding_window", "window_left": 3, "window_right": 1}
ONE = {"batch": 1, "seqlen_kv": 14}
CAPPED = {"score_mod": "softcap", "softcap": 0.7}
ASKED: dict[str, list[dict[str, Any]]] = {
    "flash-attn/4": [
        {}, CAUSAL, LATER, WINDOW, {"score_mod": "sink"}, {**CAUSAL, "mode": "forward_backward"},
    ],
    "flash-attn/3-fwd": [{"dtype": "bfloat16", **more} for more in ({}, CAUSAL, LATER)],
    "sage/triton": [{}, CAUSAL],
    "flashinfer/prefill": [
        ONE, {**ONE, **LATER}, {"batch": 1, "mask": "sliding_window", "window_left": 3}, {**ONE, **CAPPED},
    ],
    "flashinfer/decode": [{**ONE, "seqlen_q": 1}, {**ONE, "seqlen_q": 1, **CAPPED}],
    "cudnn/frontend": [
        {}, CAUSAL, LATER, {**LATER, "alignment": "top_left"}, {"strides": "transposed"},
        {"head_dim_v": 40, "dtype": "bfloat16"},
    ],
    "torch/varlen": [
        {}, CAUSAL, WINDOW, {"mask": "document", "document_lengths": (2, 7)},
        {"mask": "document", "document_lengths": (2, 7), "document_causal": True},
    ],
    "jax/cudnn": [{}, CAUSAL, WINDOW],
    "jax/xla": [CAUSAL],
}  # fmt: skip
JOBS = [(name, make_case(**{**USUAL, **more})) for name, cases in ASKED.items() for more in cases]


def job_name(name: str, case: Case) -> str:
    return f"{name.replace('/', '-')}-{case.case_id}"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with each back end's outputs, computed with a stand-in for its library."""
    folder = tmp_path_factory.mktemp("stubbed")
    jobs = [
        {"name": job_name(name, case), "module": MODULES[name], "implementation": name, "case": case.to_dict()}
        for name, case in JOBS
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.implementations.stubbed", str(folder / "jobs.json"), str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize(("name", "case"), JOBS, ids=lambda part: str(getattr(part, "case_id", part)))
def test_layout_scale_mask_and_heads_are_passed_on_as_the_library_documents_them(
    name: str, case: Case, outputs: Path
) -> None:
    said = implementation(MODULES[name], name).declaration
    assert said.refuses(case, "cuda") is None
    with np.load(outputs / f"{job_name(name, case)}.npz") as found:
        assert disagreement(case, dict(found), answer_of(case)) is None


HAVE_RUN = {"jax/cudnn", "flash-attn/3-fwd", "cudnn/frontend", "sage/triton"}
"""Back ends that have run on an H200, see docs/gpu.md."""


@pytest.mark.parametrize("name", sorted({*MODULES} - {"jax/xla"}))  # which runs on a CPU too
def test_it_says_whether_it_has_ever_run_and_why_it_is_unavailable(name: str) -> None:
    (found,) = [one for one in bundled() if one.name == name]
    assert found.declaration is not None
    assert found.declaration.untested == (name not in HAVE_RUN)
    assert found.declaration.devices == ("cuda",)
    if device_unavailable("cuda"):
        assert found.unavailable == device_unavailable("cuda")


@pytest.mark.parametrize("name", EXTRAS)
def test_its_library_is_pinned_in_an_extra(name: str) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (pinned,) = [Requirement(one) for one in extras[EXTRAS[name]]]
    (needed,) = [Requirement(one) for one in implementation(MODULES[name], name).declaration.requires]
    assert pinned.name == needed.name
    (pin,) = pinned.specifier
    assert pin.operator == "=="
    assert needed.specifier.contains(pin.version.removesuffix(".*"), prereleases=True)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("flash-attn/4", {"head_dim": 20}, "head_dim 20 is not a multiple of 8 up to 256"),
        ("flash-attn/3-fwd", {"head_dim": 80}, "head_dim 80 is none of 64, 96, 128, 192, 256"),
        ("sage/triton", {"head_dim": 80}, "head_dim 80 is none of 64, 96, 128"),
        ("flashinfer/prefill", {"batch": 2}, "its kernel is for one request: batch must be 1"),
        ("flashinfer/prefill", WINDOW, "its window has no keys to the right of the diagonal: window_right must be 0"),
        ("flashinfer/decode", {"seqlen_q": 2}, "it is for a single query: seqlen_q must be 1"),
        ("cudnn/frontend", {"head_dim": 20}, "head dims 20 and 20 are not both multiples of 8 up to 256"),
        ("cudnn/frontend", {"mask": "causal", "alignment": "bottom_right", "seqlen_q": 9, "seqlen_kv": 8},
         "cuDNN's causal mask is aligned bottom right only up to as many queries as keys"),
    ],
)  # fmt: skip
def test_what_a_library_cannot_do_is_refused_in_a_sentence(name: str, fields: dict[str, Any], reason: str) -> None:
    one = implementation(MODULES[name], name)
    assert one.supports_hook is not None
    assert one.supports_hook(make_case(**fields), "cuda") == reason


def test_jax_is_told_to_leave_memory_to_others_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    one = implementation("peers.jax_attention", "jax/xla")
    assert one.supports_hook is not None
    assert one.supports_hook(make_case(), "cuda") is None
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
