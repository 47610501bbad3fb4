"""Runs implementations through worker and oracle, and checks their records.

All implementations of the registry that this machine can run are tested, so new ones need no test here. Those that take
seconds per case, as they are compiled or interpreted, are checked on ``each-feature-once.toml``, others on
``edge-shapes``.
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
# See implementations/known-disagreements.md: on a CPU torch sums gradients in 16 bits.
KNOWN_TO_BE_WRONG = ("torch/sdpa", "torch/sdpa-flash")
MANY = {"dv": ("seqlen_q", 32768), "dq": ("seqlen_kv", 65600)}
"""The wrong gradients, with the field and the length of the cases in which they are wrong."""
# Fields of a case, and the declaration's fields that list their supported values.
FEATURES = {"mask": "masks", "score_mod": "score_mods", "alignment": "alignments", "strides": "strides"}


def check(attnbench: Command, scenario: str | Path, names: Sequence[str]) -> Records:
    """Return the records of one run of some implementations, by implementation."""
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
    """Whether a record is sound; it may be undecided if scores are stored, as the budget is then wide."""
    if record["status"] == "undecided":
        return bool(record["stores_scores"])
    return record["status"] in ("ok", "unsupported") or is_known_to_be_wrong(record)


def is_known_to_be_wrong(record: dict[str, Any]) -> bool:
    """Whether ``implementations/known-disagreements.md`` lists it: a 16-bit gradient over many tokens, no output."""
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
    """Fail if the smaller set of cases omits something that the implementation declares."""
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
