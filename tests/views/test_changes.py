"""Which lines of an answer changed from one run to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.case import make_case
from attnbench.views.answer.changes import MOST_LINES, changes
from tests.views.conftest import failed, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

CASES = [make_case(seqlen_q=128 * 2**i) for i in range(12)]


def test_what_ended_otherwise_or_differs_by_more_than_noise_is_told(run_of: Callable[..., RunFile]) -> None:
    before = run_of([timed(CASES[0], "mine/a", 8e6), timed(CASES[1], "mine/a", 8e6), timed(CASES[2], "mine/a", 8e6)])
    after = run_of(
        [
            timed(CASES[0], "mine/a", 2e6),
            failed(CASES[1], "mine/a", "wrong", "out: too large"),
            timed(CASES[2], "mine/a", 8.01e6),
        ]
    )
    faster, wrong = changes(before, after)
    assert faster == f"mine/a, {CASES[0].label()}: 4 times as fast"
    assert wrong == f"mine/a, {CASES[1].label()}: wrong, was ok"
    slower, _ = changes(after, before)
    assert slower == f"mine/a, {CASES[0].label()}: 4 times as slow"


def test_nothing_is_a_line_of_its_own_and_many_are_counted(run_of: Callable[..., RunFile]) -> None:
    before = run_of([timed(case, "mine/a", 8e6) for case in CASES])
    assert changes(before, before) == ["nothing changed beyond noise"]
    after = run_of([timed(case, "mine/a", 2e6) for case in CASES])
    assert changes(before, after)[MOST_LINES:] == [f"and {len(CASES) - MOST_LINES} more"]
