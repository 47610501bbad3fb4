"""Every implementation that this machine can run, through worker and oracle, over the scenario ``edge-shapes``.

Written against the registry: an implementation that is added is tested without a line here. What takes seconds for each
case, because it is compiled anew or interpreted, is checked on ``each-feature-once.toml`` instead.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attnbench.registry.discover import Found, bundled
from tests.conftest import Command, records_of

AVAILABLE = [
    one
    for one in bundled()
    if one.unavailable is None and "cpu" in (one.declaration.devices if one.declaration else ())
]
SLOW = ("naive/torch-compile", "torch/flex", "triton/flash")  # what takes seconds for each case
EVERY_CASE = Path(__file__).with_name("every-edge-shape.toml")
FEWER_CASES = Path(__file__).with_name("each-feature-once.toml")
# See implementations/known-disagreements.md: on a CPU torch adds up dK and dV in 16 bits.
KNOWN_TO_BE_WRONG = ("torch/sdpa", "torch/sdpa-flash")
MANY_QUERIES = 32768
# Field of a case, and what a declaration calls the values that it may have.
FEATURES = {"mask": "masks", "score_mod": "score_mods", "alignment": "alignments", "strides": "strides"}


@pytest.fixture(scope="module")
def records(module_attnbench: Command) -> dict[str, list[dict[str, Any]]]:
    """Records by implementation."""
    quick = [one.name for one in AVAILABLE if one.name not in SLOW]
    by_name: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for scenario, names in ((FEWER_CASES, SLOW), (EVERY_CASE, quick)):
        for record in check(module_attnbench, scenario, names):
            by_name[record["implementation"]].append(record)
    return by_name


def check(attnbench: Command, scenario: str | Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Records of one run over some implementations; those of them that are not available here are left out."""
    chosen = [argument for one in AVAILABLE if one.name in names for argument in ("-i", f"^{one.name}$")]
    if not chosen:
        return []
    finished = attnbench("check", scenario, *chosen)
    assert finished.out, finished.err
    return records_of(attnbench.folder / finished.out.strip())


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("found", AVAILABLE, ids=lambda found: found.name)
def test_it_agrees_with_the_oracle_on_everything_that_it_declares(
    found: Found, records: dict[str, list[dict[str, Any]]]
) -> None:
    counts = collections.Counter(record["status"] for record in records[found.name])
    known = [record for record in records[found.name] if is_known_to_be_wrong(record)]
    bad = [r for r in records[found.name] if r["status"] not in ("ok", "unsupported") and r not in known]
    shown = "\n".join(f"{r['status']}: {r['repro']}\n    {r['reason']}" for r in bad[:10])
    assert counts, "it has no record"
    assert not bad, f"{counts}\n{shown}"
    if counts["ok"] == 0:
        reasons = {record["reason"] for record in records[found.name]}
        pytest.skip(f"it supports none of these cases here: {'; '.join(sorted(reasons))[:300]}")


def is_known_to_be_wrong(record: dict[str, Any]) -> bool:
    """Whether ``implementations/known-disagreements.md`` has it: dV of many queries in 16 bits, and nothing else."""
    if record["implementation"] not in KNOWN_TO_BE_WRONG or record["status"] != "wrong":
        return False
    if (record["seqlen_q"], record["dtype"]) != (MANY_QUERIES, "bfloat16"):
        return False
    return bool(record["dv_error_ratio"] > 1 > max(record["out_error_ratio"], record["dq_error_ratio"]))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [one.name for one in AVAILABLE if one.name in KNOWN_TO_BE_WRONG])
def test_what_is_known_to_be_wrong_still_is(name: str, records: dict[str, list[dict[str, Any]]]) -> None:
    """If not: take it out of ``known-disagreements.md``."""
    assert any(map(is_known_to_be_wrong, records[name]))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("found", [one for one in AVAILABLE if one.name in SLOW], ids=lambda found: found.name)
def test_fewer_cases_hold_every_feature_that_it_declares(
    found: Found, records: dict[str, list[dict[str, Any]]]
) -> None:
    agreed = [record for record in records[found.name] if record["status"] == "ok"]
    assert found.declaration is not None
    with_gradients = any(record["mode"] != "forward" for record in agreed)
    for field, noun in FEATURES.items():
        declared = set(getattr(found.declaration, noun)) - (set() if with_gradients else {"summed"})
        assert {record[field] for record in agreed} >= declared, field
    assert any(record["heads_q"] > record["heads_kv"] for record in agreed)
    assert any(record["head_dim_v"] != record["head_dim"] for record in agreed)
    assert {record["inputs"] for record in agreed} > {"normal", "needle", "retrieval", "large_logits"}


def test_everything_that_is_unavailable_says_why() -> None:
    silent = [one.name for one in bundled() if one.unavailable is not None and len(one.unavailable) < 10]
    assert not silent


def test_the_registry_holds_every_family() -> None:
    names = {one.name for one in bundled()}
    promised = {
        *("naive/numpy", "naive/torch", "naive/torch-compile", "chunked/torch", "numba/flash", "triton/flash"),
        *("torch/sdpa", "torch/sdpa-math", "torch/sdpa-flash", "torch/sdpa-efficient", "torch/sdpa-cudnn"),
        *("torch/flex", "torch/multihead-attention"),
        *("xformers/auto", "xformers/cutlass", "xformers/flash", "xformers/splitk"),
        *(
            "flash-attn/4",
            "flash-attn/3-fwd",
            "cudnn/frontend",
            "sage/triton",
            "flashinfer/prefill",
            "flashinfer/decode",
        ),
        *("torch/varlen", "jax/cudnn", "jax/xla"),
    }
    assert promised <= names, promised - names
