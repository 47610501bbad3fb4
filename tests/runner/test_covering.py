"""A check that names no case draws cases; implementations that take the same share the search for them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.covering.array import Array, Space, cover
from attnbench.runner.planning import covering

ALIKE = """
from attnbench import attention

CLAIM = dict(dtypes=["float32"], masks=["none"], modes=["forward"])


@attention("alike/one", **CLAIM)
def one(q, k, v, case):
    "The first."
    return q


@attention("alike/other", **CLAIM)
def other(q, k, v, case):
    return q


@attention("alike/refuses", **CLAIM)
def refuses(q, k, v, case):
    return q


@refuses.supports
def _(case, device):
    return "too long" if case.seqlen_kv > 64 else None


@attention("alike/causal", **CLAIM | {"masks": ["none", "causal"]})
def causal(q, k, v, case):
    return q
"""


def test_one_search_serves_implementations_that_take_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[Space] = []

    def counted(space: Space, strength: int, rng: random.Random, most: int) -> Array:
        searches.append(space)
        return cover(space, strength, rng, most)

    monkeypatch.setattr(covering, "cover", counted)
    plugin = tmp_path / "alike.py"
    plugin.write_text(ALIKE)
    asked = CellSelection.of(include="^alike/", plugin=str(plugin), device="cpu", threads=1, seed=3)
    request = covering.with_covering_cases(asked.request(Log(progress=False), only_agreement=True), thorough=False)
    cases: dict[str, set[str]] = {}
    for cell in request.cells or ():
        case_id, name, _ = cell.split(" ")
        cases.setdefault(name, set()).add(case_id)
    assert len(searches) == 3
    assert cases["alike/one"] == cases["alike/other"]
    assert cases["alike/one"] != cases["alike/refuses"]
    assert cases["alike/one"] != cases["alike/causal"]
    assert set(request.possible) == {f"alike/{name} cpu" for name in ("one", "other", "refuses", "causal")}
