"""Which cells a plan has, in which order, and how to repeat one."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.registry.discover import bundled
from attnbench.registry.found import Found, Origin
from attnbench.runner.planning.plan import Cell, PlanError, Selectors, choose, plan
from attnbench.runner.planning.request import found_of
from attnbench.sweep.expand import adhoc, parse_overrides

GIB = 2**30


def planned(axes: list[str], *, replicates: int = 1, seed: int = 0, memory_bytes: int = GIB) -> list[Cell]:
    found = [one for one in bundled() if one.name in ("naive/numpy", "naive/torch")]
    overrides = parse_overrides(axes)
    return plan(adhoc(), overrides, found, ["cpu"], replicates=replicates, seed=seed, memory_bytes=memory_bytes)


def test_each_implementation_meets_each_case_in_each_replicate() -> None:
    cells = planned(["seqlen=16,32,64"], replicates=2)
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 3 * 2


def test_replicates_follow_each_other_and_each_has_an_order_of_its_own() -> None:
    cells = planned(["seqlen=1..1k"], replicates=2)
    half = len(cells) // 2
    assert [cell.replicate for cell in cells] == [0] * half + [1] * half
    orders = [[cell.key[:3] for cell in part] for part in (cells[:half], cells[half:])]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_what_is_compared_runs_one_after_the_other() -> None:
    cases = [cell.case.case_id for cell in planned(["seqlen=1..1k"], replicates=1)]
    assert sum(a != b for a, b in itertools.pairwise(cases)) == len(set(cases)) - 1


def test_neither_implementation_is_always_first() -> None:
    cells = planned(["seqlen=1..1k"], replicates=1)
    first = {a.found.name for a, b in itertools.pairwise(cells) if a.case == b.case}
    assert len(first) == 2


def test_the_seed_fixes_the_order() -> None:
    assert [c.key for c in planned(["seqlen=1..1k"])] == [c.key for c in planned(["seqlen=1..1k"])]
    assert [c.key for c in planned(["seqlen=1..1k"])] != [c.key for c in planned(["seqlen=1..1k"], seed=1)]


def test_what_is_not_declared_is_unsupported_before_anything_runs() -> None:
    cells = planned(["dtype=bfloat16"])
    (numpy,) = [cell for cell in cells if cell.found.name == "naive/numpy"]
    assert numpy.preset_outcome == ("unsupported", "dtype 'bfloat16' is not declared (only float32, float64)")


def test_a_case_that_cannot_fit_is_skipped_with_its_size() -> None:
    cells = planned(["seqlen=1m", "heads=8", "dtype=float64"])
    assert all(
        cell.preset_outcome == ("skipped", "inputs and outputs alone take 16 GiB, the limit is 1 GiB") for cell in cells
    )


def test_a_device_that_is_not_there_is_unavailable() -> None:
    (found,) = [one for one in bundled() if one.name == "torch/sdpa-cudnn"]
    if found.unavailable is None:
        pytest.skip("this machine has a CUDA device")
    cells = plan(adhoc(), {}, [found], ["cuda"], replicates=1, seed=0, memory_bytes=GIB)
    assert cells[0].preset_outcome is not None
    assert cells[0].preset_outcome[0] == "unavailable"


def test_choosing_by_regular_expressions() -> None:
    found = bundled()
    names = [one.name for one in choose(found, adhoc(), Selectors(include=("^naive/",), exclude=("compile",)))]
    assert names == ["naive/numpy", "naive/numpy-multi-head", "naive/torch"]


def test_a_whole_name_chooses_that_one_alone() -> None:
    every = [one.name for one in bundled()]
    assert {"torch/sdpa", "torch/sdpa-flash"} <= {*every}
    assert Selectors(include=("torch/sdpa",)).choose(every) == {"torch/sdpa"}
    assert {*every} - Selectors(exclude=("torch/sdpa",)).choose(every) == {"torch/sdpa"}
    assert "torch/sdpa-flash" in Selectors(include=("torch/sdp",)).choose(every)


def test_a_chosen_name_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(PlanError, match="no implementation matches 'nope'"):
        choose(bundled(), adhoc(), Selectors(include=("naive", "nope")))


def test_an_exclusion_that_leaves_nothing_out_is_told() -> None:
    said: list[str] = []
    request = CellSelection.of("quick", exclude=["torhc/sdpa", "naive"]).request(Log(progress=False))
    assert not {"naive/torch", "naive/numpy"} & {one.name for one in found_of(request, said.append)}
    assert said == ["-x 'torhc/sdpa' leaves nothing out: no implementation matches; did you mean 'torch/sdpa'?"]


def test_what_is_missed_may_be_in_an_installed_plugin_that_cannot_be_imported() -> None:
    broken = dataclasses.replace(
        FOUND, name="theirs", origin=Origin("entry_point", "theirs:flash"), unavailable="importing it raised OSError"
    )
    with pytest.raises(PlanError, match=r"matches 'flashy'.*; entry point theirs:flash: importing it raised OSError$"):
        choose([*bundled(), broken], adhoc(), Selectors(include=("flashy",)))


FOUND = Found(
    name="naive/torch",
    origin=Origin("module", "attnbench.implementations.naive_torch"),
    declaration=None,
    version=None,
    source_hash=None,
    unavailable=None,
)


def test_a_plan_of_more_cells_than_anybody_means_is_refused_and_counted() -> None:
    with pytest.raises(PlanError, match=r"the plan has 20,000,000 cells, and 200,000 are the most"):
        planned(["seqlen=" + ",".join(map(str, range(1, 1001)))], replicates=10_000)


def test_a_case_that_fits_nowhere_is_planned_at_once_and_skipped() -> None:
    cells = planned(["seqlen=2048m", "heads=1", "head_dim=1", "mask=none,causal,sliding_window,key_padding"])
    assert {cell.preset_outcome and cell.preset_outcome[0] for cell in cells} == {"skipped"}


def test_a_selection_that_cannot_be_matched_in_sensible_time_is_refused() -> None:
    found = [dataclasses.replace(bundled()[0], name="family/" + 90 * "a")]
    for line in (Selectors(include=("(a|aa)+$X",)), Selectors(exclude=("(a|aa)+$X",))):
        with pytest.raises(PlanError, match="takes too long"):
            choose(found, adhoc(), line)
