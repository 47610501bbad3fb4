"""The queue never splits a case between kinds of machines, and reassigns the work of a lost machine."""

from __future__ import annotations

import pytest

from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.fleet.queue import Work, WorkQueue
from attnbench.runner.planning.plan import Cell
from attnbench.runner.planning.request import plan_request


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """Return cells of two cases, two implementations and two replicates."""
    asked = CellSelection.of(include=["naive/numpy", "naive/torch"], axis=["seqlen=16,32"], device="cpu")
    return plan_request(asked.request(Log(progress=False), replicates=2))


def taken(queue: WorkQueue, key: str) -> Work:
    work = queue.take("cpu", key)
    assert work is not None
    return work


def test_a_case_with_all_its_implementations_is_one_work_of_each_replicate(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    works = [taken(queue, "a") for _ in range(4)]
    assert queue.take("cpu", "a") is None
    assert [len({cell.case for cell in work.cells}) for work in works] == [1] * 4
    assert [cell.key for work in works for cell in work.cells] == [cell.key for cell in cells], "the plan's order"


def test_replicates_of_a_case_stay_with_a_kind_of_machine(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    first, second = taken(queue, "a"), taken(queue, "b")
    assert {taken(queue, "a").case, taken(queue, "b").case} == {first.case, second.case}
    assert len(queue) == 0
    other = WorkQueue(cells, {first.case: "c"})
    assert {taken(other, "a").case, taken(other, "a").case} == {second.case}
    assert other.take("cpu", "a") is None


def test_what_an_earlier_sitting_began_elsewhere_waits_for_such_a_machine(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {(cells[0].case.case_id, "cpu"): "elsewhere"})
    assert (queue.orphans([("cpu", "a")]), len(queue)) == ([], 4)


def test_another_device_gets_nothing(cells: list[Cell]) -> None:
    assert WorkQueue(cells, {}).take("cuda", "a") is None


def test_what_a_lost_machine_had_goes_to_the_next_of_its_kind(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    lost = taken(queue, "a")
    queue.give_back(lost, "r2", "node2: killed")
    assert queue.orphans([("cpu", "a"), ("cpu", "b")]) == []
    assert taken(queue, "b") is not lost
    assert taken(queue, "a") is lost


def test_where_no_other_of_its_kind_is_left_the_reason_is_told(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    lost = taken(queue, "a")
    queue.give_back(lost, "r2", "node2: killed")
    found = queue.orphans([("cpu", "b")])
    assert [(work.case, run_id) for work, _, run_id in found] == [(lost.case, "r2")] * 2, "both of its replicates"
    assert found[0][1] == "no machine of the kind that has begun this case (a) is left: node2: killed"
    assert len(queue) == 2


def test_where_nobody_is_left_cases_wait_for_another_sitting(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    queue.give_back(taken(queue, "a"), "r2", "node2: killed")
    assert (queue.orphans([]), len(queue)) == ([], 4)


def test_a_case_that_takes_machines_with_it_is_given_to_no_more_of_them(cells: list[Cell]) -> None:
    queue = WorkQueue(cells, {})
    for node in ("node1: killed", "node2: killed"):
        queue.give_back(taken(queue, "a"), "r", node)
    ((_, why, _),) = queue.orphans([("cpu", "a")])
    assert why == "2 machines were lost while they measured this case: node1: killed; node2: killed"
