"""The sentence and short table with which ``run`` ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.views.document import Table, markdown
from attnbench.views.show import MOST_ROWS, answer
from tests.views.conftest import failed, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.store.reader import RunFile

    RunOf = Callable[..., RunFile]

LENGTHS = (128, 256, 512, 1024)
MINE = {"a/mine": {"origin": {"kind": "file", "target": "mine.py"}}, "torch/sdpa": {}}


def lines(times_us: Mapping[str, Sequence[float | str]], **given: Any) -> list[dict[str, Any]]:
    """Return records of each implementation at the first lengths: a time in µs, or the status of a failed cell."""
    return [
        failed(make_case(seqlen_q=tokens), name, said, "it is so")
        if isinstance(said, str)
        else timed(make_case(seqlen_q=tokens), name, 1e3 * said, **given)
        for name, row in times_us.items()
        for tokens, said in zip(LENGTHS, row, strict=False)
    ]


def sentence(run: RunFile) -> str:
    """Return the only sentence, which comes last."""
    (said,) = answer(run).facts["sentences"]
    assert markdown(answer(run)).rstrip().endswith(said.replace("_", "\\_"))
    return str(said)


@pytest.mark.parametrize(
    ("times_us", "said"),
    [
        (
            {"slow/plain": [100, 100, 100, 100], "b/b": [50, 25, 10, 200], "c/c": [90, 90, 90, 10]},
            "b/b is fastest in 3 of 4 cases: 2.00 to 10.0× as fast as slow/plain; c/c in 1.",
        ),
        ({"slow/plain": [100], "b/b": [50]}, "b/b is fastest: 2.00× (1.96 … 2.04) as fast as slow/plain."),
        (
            {"slow/plain": [100, 100], "b/b": [50, 50], "c/c": [50.1, 90]},
            "b/b is fastest in 1 of 2 cases: 2.00× (1.96 … 2.04) as fast as slow/plain; within noise in 1.",
        ),
        (
            {"slow/plain": [50, 60], "b/b": [100, 90]},
            "slow/plain is fastest in both cases: 1.50 to 2.00× as fast as the next.",
        ),
        (
            {"slow/plain": [50, 50], "b/b": [50, 50]},
            "None is clearly the fastest in any of 2 cases: b/b, slow/plain are within noise of the fastest in some.",
        ),
        (
            {"slow/plain": [50, 100], "b/b": ["wrong", "wrong"]},
            "slow/plain alone has a time: 50.0 µs to 100 µs in 2 cases.",
        ),
        (
            {"slow/plain": [100, 100], "b/b": [50, "wrong"]},
            "b/b is fastest in 1 of 2 cases: 2.00× (1.96 … 2.04) as fast as slow/plain; one alone in 1.",
        ),
    ],
)
def test_the_sentence_names_the_fastest(
    run_of: RunOf, times_us: Mapping[str, Sequence[float | str]], said: str
) -> None:
    assert sentence(run_of(lines(times_us))) == said


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (
            [50, 100, 200],
            "0.500 to 2.00× as fast as torch/sdpa in all 3 cases, within noise of it in 1, the fastest in 1",
        ),
        (
            [50, "wrong", "crashed"],
            "2.00× (1.96 … 2.04) as fast as torch/sdpa in 1 of 3 cases, the fastest in 1, wrong in 1, crashed in 1",
        ),
        ([100], "within noise of torch/sdpa, 1.00× (0.980 … 1.02) as fast"),
        ([100, 101, "wrong"], "within noise of torch/sdpa in 2 of 3 cases, 0.990 to 1.00× as fast, wrong in 1"),
        (["wrong"], "wrong"),
        ([200], "0.500× (0.490 … 0.510) as fast as torch/sdpa"),
    ],
)
def test_with_a_plugin_the_sentence_is_about_it(run_of: RunOf, mine: Sequence[float | str], said: str) -> None:
    """The sentence names the plug-in first, even if others are faster."""
    others = {"torch/sdpa": [100] * len(mine)}
    run = run_of(lines({"a/mine": mine, **others}), implementations=MINE, scenario={"name": "s"})
    assert sentence(run) == f"a/mine is {said}."


def test_each_of_a_few_plugins_has_a_sentence(run_of: RunOf) -> None:
    about = dict.fromkeys(("a/one", "a/two"), MINE["a/mine"])
    run = run_of(lines({"a/one": [5], "a/two": [6], "z/z": [9]}), implementations=about, scenario={"name": "s"})
    assert [said.split()[0] for said in answer(run).facts["sentences"]] == ["a/one", "a/two"]


def test_where_nothing_was_timed_there_is_no_sentence(run_of: RunOf) -> None:
    assert answer(run_of(lines({"a/a": ["wrong"], "b/b": ["crashed"]}))).facts["sentences"] == []


def test_few_cells_have_a_line_each_the_fastest_first(run_of: RunOf) -> None:
    said = markdown(
        answer(run_of(lines({"slow/plain": [300], "b/b": [100], "c/c": ["wrong"], "d/d": ["unavailable"]})))
    )
    table = [line.split(" | ")[1] for line in said.splitlines() if line.startswith("| 128")]
    assert table == ["b/b", "slow/plain", "c/c"]


def test_of_many_cells_each_implementation_has_a_line(run_of: RunOf) -> None:
    names = [f"x/{number}" for number in range(MOST_ROWS // len(LENGTHS) + 1)]
    times = {name: [100.0 / (2 + number)] * 4 for number, name in enumerate(names)}
    run = run_of(lines({"slow/plain": [100, 100, 100, 100], **times, "bad/one": ["wrong"] * 4}))
    table, *_ = answer(run).blocks
    assert isinstance(table, Table)
    first, *_, last = [row for row in table.rows if row["implementation"] != "slow/plain"]
    assert (first["implementation"], first["fastest"], first["timed"]) == (names[-1], 4, 4)
    assert first["speedup"] == pytest.approx(9)
    assert last["speedup"] == pytest.approx(2)
