"""Cells of one case take turns if each has its own worker and all fit into memory."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from attnbench import make_case
from attnbench.cases.cost import minimum_bytes
from attnbench.runner.turns import in_company, take_turns

CASE = make_case(seqlen_q=64)


def party(log: list[str], name: str, steps: int) -> tuple[str, Generator[None, None, Any]]:
    def go_on() -> Generator[None, None, str]:
        try:
            for step in range(steps):
                log.append(f"{name}{step}")
                yield
        finally:
            log.append(f"{name} ends")
        return name.upper()

    return name, go_on()


def test_who_was_last_goes_on_first_until_each_has_its_record() -> None:
    log: list[str] = []
    records = list(take_turns([party(log, "a", 3), party(log, "b", 1), party(log, "c", 2)]))
    assert log == ["a0", "b0", "c0", "c1", "b ends", "a1", "a2", "c ends", "a ends"]
    assert records == [("b", "B"), ("c", "C"), ("a", "A")]


def test_when_one_breaks_the_others_are_closed() -> None:
    log: list[str] = []

    def breaks() -> Generator[None, None, Any]:
        yield
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(take_turns([party(log, "a", 5), ("b", breaks())]))
    assert log[-1] == "a ends"


def cell(name: str, device: str = "cpu") -> Any:
    return SimpleNamespace(found=SimpleNamespace(name=name), device=device, case=CASE)


def grouped(*cells: Any, memory_bytes: int | None = None) -> list[list[str]]:
    return [[one.found.name for one in group] for group in in_company(cells, memory_bytes)]


def test_cells_on_a_cpu_go_together_and_those_on_a_gpu_alone() -> None:
    assert grouped(cell("a"), cell("b"), cell("g", "cuda"), cell("h", "cuda"), cell("c")) == [
        ["a", "b"], ["g"], ["h"], ["c"],
    ]  # fmt: skip


def test_two_cells_of_one_worker_do_not() -> None:
    assert grouped(cell("a"), cell("a"), cell("b")) == [["a"], ["a"], ["b"]]


def test_nor_do_those_that_would_not_fit() -> None:
    enough = 16 * minimum_bytes(CASE) * 2
    assert grouped(cell("a"), cell("b"), memory_bytes=enough) == [["a", "b"]]
    assert grouped(cell("a"), cell("b"), memory_bytes=enough - 1) == [["a"], ["b"]]
