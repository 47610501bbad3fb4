"""The libraries of the extra ``peers-cpu`` agree if installed; otherwise a listing says what is missing."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

from attnbench import make_case
from attnbench.mutants.mutant import Mutant
from attnbench.mutants.trial import trial
from attnbench.registry.discover import bundled
from tests.implementations.conftest import answer_of, disagreement, implementation, results_of

PEERS = {
    "onnxruntime/mha": "peers.onnxruntime_mha",
    "openvino/sdpa": "peers.openvino_sdpa",
    "jax/xla": "peers.jax_attention",
}
EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def missing(name: str) -> list[str]:
    needed = implementation(PEERS[name], name).declaration.requires
    return [one for one in needed if not installed(Requirement(one).name)]


def installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("name", PEERS)
def test_a_listing_says_what_is_missing(name: str) -> None:
    (found,) = [one for one in bundled() if one.name == name]
    if missing(name):
        assert found.unavailable is not None
        assert all(Requirement(one).name in found.unavailable for one in missing(name)[:1])
    else:
        assert found.unavailable is None


@pytest.mark.parametrize("name", PEERS)
def test_the_extra_brings_what_it_needs(name: str) -> None:
    offered = {Requirement(one).name for one in EXTRAS["peers-cpu"]}
    assert {Requirement(one).name for one in implementation(PEERS[name], name).declaration.requires} <= offered


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize(
    ("name", "dtype"), [("onnxruntime/mha", "float32"), ("openvino/sdpa", "float32"), ("openvino/sdpa", "bfloat16")]
)
def test_it_agrees_with_the_definition(name: str, dtype: str, mask: str) -> None:
    if missing(name):
        pytest.skip(f"not installed: {', '.join(missing(name))}")
    one: Any = implementation(PEERS[name], name)
    case = make_case(batch=2, heads_q=4, seqlen_q=70, head_dim=40, dtype=dtype, mask=mask)
    assert disagreement(case, results_of(one, case), answer_of(case)) is None


@pytest.mark.parametrize(
    "fields", [{"mask": "causal & tensor"}, {"score_mod": "bias"}, {"mask": "tensor", "score_mod": "bias"}]
)
@pytest.mark.parametrize(
    ("name", "dtype"), [("onnxruntime/mha", "float32"), ("openvino/sdpa", "float32"), ("openvino/sdpa", "bfloat16")]
)
def test_it_takes_a_mask_and_a_bias_of_a_file(name: str, dtype: str, fields: dict[str, str], tmp_path: Path) -> None:
    if missing(name):
        pytest.skip(f"not installed: {', '.join(missing(name))}")
    one: Any = implementation(PEERS[name], name)
    random = np.random.default_rng(0)
    mask = (random.random((2, 1, 70, 70)) < 0.3) | np.eye(70, dtype=bool)
    np.savez(tmp_path / "a.npz", mask=mask, bias=np.round(16 * random.standard_normal((4, 70, 70))) / 16)
    files = {"mask_file": str(tmp_path / "a.npz"), "bias_file": str(tmp_path / "a.npz")}
    case = make_case(batch=2, heads_q=4, seqlen_q=70, head_dim=40, dtype=dtype, **files, **fields)
    assert one.declaration.refuses(case, "cpu") is None
    assert disagreement(case, results_of(one, case), answer_of(case)) is None


MASKS: tuple[dict[str, Any], ...] = (
    {"mask": "causal & left_padding", "kv_starts": [3, 70]},
    {"mask": "sliding_window & document", "window_left": 5, "document_lengths": [30, 1, 39]},
    {"mask": "tree", "seqlen_q": 5, "alignment": "bottom_right", "tree_parents": [-1, 0, 0, 1]},
    {"mask": "causal", "seqlen_q": 31, "alignment": "bottom_right"},
    {"mask": "tensor & key_padding", "score_mod": "bias", "seqlen_kv": 90},
    {"mask": "causal", "score_mod": "alibi"},
    {"mask": "none", "score_mod": "relative_bias"},
)


@pytest.mark.parametrize("fields", MASKS, ids=lambda fields: f"{fields['mask']} {fields.get('score_mod', '')}")
@pytest.mark.parametrize("name", PEERS)
def test_it_takes_every_mask_and_rows_that_see_no_key(name: str, fields: dict[str, Any]) -> None:
    if missing(name):
        pytest.skip(f"not installed: {', '.join(missing(name))}")
    one: Any = implementation(PEERS[name], name)
    case = make_case(**{"batch": 2, "heads_q": 4, "seqlen_q": 70, "seqlen_kv": 70, "head_dim": 40, **fields})
    assert one.declaration.refuses(case, "cpu") is None
    assert trial(case, [Mutant("peer", "", None, one)]) == {"peer": None}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_agrees_behind_projections_whose_heads_are_a_view(name: str, dtype: str) -> None:
    one = implementation(PEERS[name], name)
    case = make_case(operator="multi_head_attention", heads_q=4, seqlen_q=65, head_dim=16, dtype=dtype)
    if missing(name) or one.declaration.refuses(case, "cpu"):
        pytest.skip(f"not installed: {', '.join(missing(name))}" if missing(name) else "it does not say it can")
    assert trial(case, [Mutant("peer", "", None, one)]) == {"peer": None}
