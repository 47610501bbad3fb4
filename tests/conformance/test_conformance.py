"""Every implementation that this machine can run, through worker and oracle, over the scenario ``edge-shapes``.

Written against the registry: an implementation that is added is tested without a line here.
"""

from __future__ import annotations

import collections

import pytest

from attnbench.registry.discover import Found, bundled
from tests.conftest import Command, records_of

AVAILABLE = [
    one
    for one in bundled()
    if one.unavailable is None and "cpu" in (one.declaration.devices if one.declaration else ())
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("found", AVAILABLE, ids=lambda found: found.name)
def test_it_agrees_with_the_oracle_on_everything_that_it_declares(found: Found, attnbench: Command) -> None:
    finished = attnbench("check", "edge-shapes", "-i", f"^{found.name}$", "--out", "run.jsonl", timeout_s=1200)
    records = records_of(attnbench.folder / "run.jsonl")
    counts = collections.Counter(record["status"] for record in records)
    bad = [r for r in records if r["status"] not in ("ok", "unsupported")]
    shown = "\n".join(f"{r['status']}: {r['repro']}\n    {r['reason']}" for r in bad[:10])
    assert not bad, f"{counts}\n{shown}\n{finished.err[-2000:]}"
    if counts["ok"] == 0:
        reasons = {record["reason"] for record in records}
        pytest.skip(f"it supports none of these cases here: {'; '.join(sorted(reasons))[:300]}")


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
    }
    assert promised <= names, promised - names
