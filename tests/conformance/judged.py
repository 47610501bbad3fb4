"""Every implementation that this machine can run, through worker and oracle, and what must be true of its records.

Written against the registry: an implementation that is added is tested without a line here. What takes seconds for each
case, because it is compiled anew or interpreted, is checked on ``each-feature-once.toml``, the rest on ``edge-shapes``.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attnbench.registry.discover import bundled
from tests.conftest import Command, records_of

Records = dict[str, list[dict[str, Any]]]

AVAILABLE = {
    one.name: one
    for one in bundled()
    if one.unavailable is None and one.declaration and "cpu" in one.declaration.devices
    if not one.declaration.ranks  # see tests/ranks
}
COMPILED = tuple(name for name in ("naive/torch-compile", "torch/flex") if name in AVAILABLE)
INTERPRETED = tuple(name for name in ("triton/flash",) if name in AVAILABLE)
QUICK = tuple(name for name in AVAILABLE if name not in (*COMPILED, *INTERPRETED))
EVERY_CASE = Path(__file__).with_name("every-edge-shape.toml")
FEWER_CASES = Path(__file__).with_name("each-feature-once.toml")
# See implementations/known-disagreements.md: on a CPU torch adds up gradients in 16 bits.
KNOWN_TO_BE_WRONG = ("torch/sdpa", "torch/sdpa-flash")
MANY = {"dv": ("seqlen_q", 32768), "dq": ("seqlen_kv", 65600)}
"""The gradient that is wrong there, and by how many tokens one knows the case."""
# Field of a case, and what a declaration calls the values that it may have.
FEATURES = {"mask": "masks", "score_mod": "score_mods", "alignment": "alignments", "strides": "strides"}


def check(attnbench: Command, scenario: str | Path, names: Sequence[str]) -> Records:
    """Records of one run over some implementations, by implementation."""
    by_name: Records = collections.defaultdict(list)
    if not names:
        return by_name
    finished = attnbench("check", scenario, *(argument for name in names for argument in ("-i", f"^{name}$")))
    assert finished.out, finished.err
    for record in records_of(attnbench.folder / finished.out.strip()):
        by_name[record["implementation"]].append(record)
    return by_name


def require_agreement(records: Sequence[dict[str, Any]]) -> None:
    """Fail where an implementation's records are neither ok nor known to be wrong."""
    counts = collections.Counter(record["status"] for record in records)
    bad = [r for r in records if not is_sound(r)]
    shown = "\n".join(f"{r['status']}: {r['repro']}\n    {r['reason']}" for r in bad[:10])
    assert counts, "it has no record"
    assert not bad, f"{counts}\n{shown}"
    if counts["ok"] == 0:
        reasons = {record["reason"] for record in records}
        pytest.skip(f"it supports none of these cases here: {'; '.join(sorted(reasons))[:300]}")


def is_sound(record: dict[str, Any]) -> bool:
    """Whether nothing speaks against it; who stores scores is given so much room that some inputs cannot tell."""
    if record["status"] == "undecided":
        return bool(record["stores_scores"])
    return record["status"] in ("ok", "unsupported") or is_known_to_be_wrong(record)


def is_known_to_be_wrong(record: dict[str, Any]) -> bool:
    """Whether ``implementations/known-disagreements.md`` has it: a gradient over many tokens in 16 bits, no output."""
    if (
        record["implementation"] not in KNOWN_TO_BE_WRONG
        or record["status"] != "wrong"
        or record["dtype"] != "bfloat16"
    ):
        return False
    return record["out_error_ratio"] <= 1 and any(
        record[field] == tokens and record[f"{gradient}_error_ratio"] > 1 for gradient, (field, tokens) in MANY.items()
    )


def require_every_feature(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Fail where fewer cases leave out something that an implementation declares."""
    agreed = [record for record in records if record["status"] == "ok"]
    declaration = AVAILABLE[name].declaration
    assert declaration is not None
    with_gradients = any(record["mode"] != "forward" for record in agreed)
    for field, noun in FEATURES.items():
        declared = set(getattr(declaration, noun)) - (set() if with_gradients else {"summed"})
        assert {record[field] for record in agreed} >= declared, field
    assert any(record["heads_q"] > record["heads_kv"] for record in agreed)
    assert any(record["head_dim_v"] != record["head_dim"] for record in agreed)
    assert {record["inputs"] for record in agreed} > {"normal", "needle", "retrieval", "large_logits"}
