"""The sentence on memory is about the case in which implementations differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.case import make_case
from attnbench.views.answer.memory import memory_sentence
from attnbench.views.cells import cells_of
from attnbench.views.groups import group_cells
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

    RunOf = Callable[..., RunFile]


def sentence(run_of: RunOf, peaks: dict[int, dict[str, int]]) -> str | None:
    lines = [
        timed(make_case(seqlen_q=tokens), name, 1e6, memory_peak_bytes=peak)
        for tokens, row in peaks.items()
        for name, peak in row.items()
    ]
    return memory_sentence(group_cells(cells_of(run_of(lines))).groups)


def test_it_is_of_the_case_in_which_most_and_least_are_farthest_apart(run_of: RunOf) -> None:
    peaks = {1024: {"a/a": 2**24, "b/b": 2**21}, 8192: {"a/a": 2**30, "b/b": 5 * 2**20, "c/c": 2**28}}
    assert sentence(run_of, peaks) == "Memory of one call at seqlen 8k: 1.00 GiB for a/a against 5.00 MiB for b/b."


def test_a_case_that_takes_next_to_nothing_is_not_told_of_where_there_are_others(run_of: RunOf) -> None:
    peaks = {128: {"a/a": 2**19, "b/b": 2}, 8192: {"a/a": 2**30, "b/b": 2**20}}
    assert "at seqlen 8k" in str(sentence(run_of, peaks))


def test_where_all_take_about_the_same_there_is_nothing_to_tell(run_of: RunOf) -> None:
    assert sentence(run_of, {128: {"a/a": 2**20, "b/b": 2**20 + 1}}) is None
    assert sentence(run_of, {128: {"a/a": 2**20}}) is None
