"""Winners: one line per range of lengths in which the same implementations lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.cases.case import make_case
from attnbench.views.answer.winners import winners_of
from attnbench.views.cells import cells_of
from attnbench.views.groups import group_cells
from attnbench.views.report.sections.results.comparing.winners import _most_often, answer_table
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile
    from attnbench.views.groups import Group


def group_of(run: RunFile) -> Group:
    (group,) = group_cells(cells_of(run)).groups
    return group


def shown(group: Group) -> list[list[str]]:
    """Return the lines of the table as displayed, without the name of the cases."""
    table = answer_table([("", group, winners_of(group))])
    return [[column.text(row) for column in table.columns[1:]] for row in table.rows]


def curve(name: str, times: dict[int, float], **given: Any) -> list[dict[str, Any]]:
    """Return records of one implementation's times by length."""
    return [timed(make_case(seqlen_q=n), name, ns, **given) for n, ns in times.items()]


def test_neighbouring_lengths_with_the_same_leader_are_one_line(run_of: Callable[..., RunFile]) -> None:
    group = group_of(
        run_of(
            [
                *curve("steady/a", {128: 1e6, 256: 2e6, 512: 4e6, 1024: 8e6}),
                *curve("steep/b", {128: 5e5, 256: 1e6, 512: 8e6, 1024: 6.4e7}),
            ]
        )
    )
    assert shown(group) == [
        ["128 … 256", "steep/b", "", "500 µs … 1.00 ms", "2.00×", "steady/a"],
        ["512 … 1k", "steady/a", "", "4.00 ms … 8.00 ms", "2.00× … 8.00×", "steep/b"],
    ]


def test_what_noise_does_not_tell_apart_leads_together(run_of: Callable[..., RunFile]) -> None:
    lines = [*curve("a/a", {128: 1e6}), *curve("b/b", {128: 1.01e6}), *curve("c/c", {128: 3e6})]
    group = group_of(run_of(lines))
    (winner,) = winners_of(group)
    assert (winner.names, winner.runner_up) == (("a/a", "b/b"), "c/c")
    assert winner.lead is not None
    assert winner.lead.value == 3.0
    assert winner.lead.low is not None
    assert winner.lead.low < 3.0
    (tie,) = winner.ties
    assert round(tie.value, 4) == 1.01
    assert tie.low is not None
    assert tie.low < 1


def test_alone_is_ahead_of_nobody(run_of: Callable[..., RunFile]) -> None:
    assert shown(group_of(run_of(curve("a/a", {128: 1e6})))) == [["128", "a/a", "", "1.00 ms", "", ""]]


def test_a_length_at_which_nothing_was_timed_has_no_line(run_of: Callable[..., RunFile]) -> None:
    untimed = {"time_samples_ns": None, "time_median_ns": None, "time_ci_low_ns": None, "time_ci_high_ns": None}
    lines = [*curve("a/a", {128: 1e6}), *curve("a/a", {256: 1e6}, **untimed)]
    assert [winner.tokens for winner in winners_of(group_of(run_of(lines)))] == [128]


def test_decoding_counts_keys(run_of: Callable[..., RunFile]) -> None:
    lines = [timed(make_case(seqlen_q=1, seqlen_kv=n), "a/a", 1e3 * n) for n in (1024, 2048)]
    assert shown(group_of(run_of(lines)))[0][0] == "1k … 2k keys"


def test_who_is_alone_in_a_case_has_not_won_it(run_of: Callable[..., RunFile]) -> None:
    lines = [*curve("a/a", {128: 1e6, 256: 3e6}), *curve("b/b", {256: 1e6})]
    winners = winners_of(group_of(run_of(lines)))
    both = _most_often(winners, "all", 128)
    assert both is not None
    assert (both.names, both.lead) == (("b/b",), "1 of 2, 1 alone")
    one = _most_often(winners[:1], "all", 128)
    assert one is not None
    assert (one.names, one.lead) == ((), "1 alone")
