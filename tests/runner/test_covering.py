"""A check without a scenario draws cases; implementations with equal declarations share the search."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnbench import Case, make_case
from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.covering.array import Array, Space, cover
from attnbench.mutants.mutant import Mutant, implementation_of
from attnbench.mutants.steps import Explicit, Plan
from attnbench.mutants.trial import trial
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


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_plan_that_is_kept_by_shapes_alone_is_caught_by_random_cases_of_known_sizes() -> None:
    """Cases of an array need not share sizes; half of the random cases take the sizes of one of them."""
    kept: dict[tuple[torch.Size, ...], tuple[Case, Plan]] = {}

    class KeepsPlans(Explicit):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
            case, plan = kept.setdefault((q.shape, k.shape, v.shape), (case, plan))
            return super().forward(q, k, v, case, plan)

    mutant = Mutant("keeps-plans", "", None, implementation_of(KeepsPlans, "mutant/keeps-plans"))
    array = [
        make_case(seqlen_q=19, seqlen_kv=keys, mask=mask, **window, seed=5)
        for keys, mask, window in (
            (19, "causal", {}),
            (40, "none", {}),
            (70, "sliding_window", {"window_left": 4, "window_right": 9}),
        )
    ]
    said = mutant.implementation.declaration
    space = Space(said=said, device="cpu", seed=5, takes=lambda cases: [True] * len(cases))
    drawn = covering.random_cases(space, array, random.Random(5))
    known = {(case.seqlen_q, case.seqlen_kv) for case in array}
    alike = [case for case in drawn if (case.seqlen_q, case.seqlen_kv) in known]
    assert len(drawn) == 2 * len(alike) == 30
    assert not {*drawn} & {*array}
    assert not any(any(trial(case, [mutant]).values()) for case in array)
    assert any(any(trial(case, [mutant]).values()) for case in alike)


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
