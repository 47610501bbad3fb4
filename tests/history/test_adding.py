"""Which revisions are added, in which order, and what is stored; sides and rounds are made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from attnbench.gate.judge.statistics import Rules
from attnbench.gate.measure.side import Side
from attnbench.gate.measure.source import SideError
from attnbench.history import adding
from attnbench.history.adding import Added, Budget, add_revisions
from attnbench.history.measuring import Measured, sweep_of
from attnbench.history.point import Point, segment_of
from attnbench.history.revisions import Commit
from attnbench.history.store import read_history
from attnbench.history.workshop import Workshop
from tests.gate.conftest import plan, side
from tests.history.lines import point, revision

REQUEST = plan(Rules(), {}).request
COMMITS = [Commit(revision=revision(i), place=i, date="", subject=f"Commit {i}") for i in range(9)]


class Quiet:
    def begins(self, what: str) -> None: ...
    def ended(self) -> None: ...


@dataclasses.dataclass
class Adding:
    """Adds revisions to a history in a folder."""

    folder: Path
    patch: pytest.MonkeyPatch
    software: dict[str, str] = dataclasses.field(default_factory=lambda: {"torch": "2.13.0"})
    broken: Sequence[int] = ()
    twins: dict[int, int] = dataclasses.field(default_factory=dict)
    """Commits with the same code as another commit."""
    slow_from: int = 99
    order: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        return self.folder / "results" / "history" / "key.jsonl"

    def side(self, name: str) -> Side:
        number = next(commit.place for commit in COMMITS if commit.revision == name)
        if number in self.broken:
            raise SideError(f"commit {number} cannot be installed")
        return side(f"code{self.twins.get(number, number)}")

    def measure(self, commit: Commit, anchor: Commit, sides: tuple[Side, Side], *_: object, seed: int) -> Measured:
        del seed
        self.order.append(commit.place)
        self.seconds += 60
        segment = segment_of(self.software)
        log = 0.1 if commit.place >= self.slow_from else 0.0
        common: dict[str, Any] = {"segment": segment.segment, "sweep": sweep_of(REQUEST), "anchor": anchor.place}
        own = point(commit.place, log_ratio=log, code=sides[1].identity, **common)
        return Measured(segment=segment, points=[own, point(anchor.place, code=sides[0].identity, **common)])

    def __call__(self, wanted: Sequence[Commit] = COMMITS, *, minutes: float = 1000) -> Added:
        self.patch.chdir(self.folder)
        self.patch.setattr(adding, "measure", self.measure)
        self.order.clear()
        shop = cast("Workshop", _Shop(request=REQUEST, side=self.side, says=lambda said: None))
        return add_revisions(
            wanted, COMMITS[0], read_history(self.path), shop, self.path, Quiet(), rounds=4, seed=0,
            budget=Budget(60 * minutes, lambda: self.seconds),
        )  # fmt: skip

    @property
    def points(self) -> list[Point]:
        return list(read_history(self.path).points)


@dataclasses.dataclass
class _Shop:
    request: object
    side: Callable[[str], Side]
    says: Callable[[str], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adding:
    return Adding(tmp_path, monkeypatch)


def test_all_are_added_the_newest_first(add: Adding) -> None:
    done = add()
    assert add.order[:3] == [8, 4, 6]
    assert sorted(one.place for one in done.measured) == list(range(1, 9))
    assert [one.place for one in add.points] == list(range(9)), "the anchor has a line, and only one"


def test_a_change_is_closed_in_on(add: Adding) -> None:
    add.slow_from = 3
    add()
    assert add.order[:4] == [8, 4, 2, 3]


def test_it_goes_on_where_it_was_stopped(add: Adding) -> None:
    assert add(minutes=3).left == 5
    assert add.order == [8, 4, 6]
    add()
    assert sorted(add.order) == [1, 2, 3, 5, 7]
    assert add() == Added()


def test_a_revision_that_cannot_be_built_is_told_and_the_others_go_on(add: Adding) -> None:
    add.broken = (4,)
    done = add()
    assert done.failed == {revision(4): "commit 4 cannot be installed"}
    assert 4 not in add.order
    assert len(done.measured) == 7


def test_an_anchor_that_cannot_be_built_ends_it(add: Adding) -> None:
    add.broken = (0,)
    with pytest.raises(SideError):
        add()
    assert not add.path.exists()


def test_the_same_code_is_measured_once(add: Adding) -> None:
    add.twins = {5: 4, 6: 4, 1: 0}
    done = add()
    assert len({5, 6, 4} & set(add.order)) == 1
    assert 1 not in add.order
    assert done.same[revision(1)] == revision(0)
    assert len(done.same) == 3


def test_new_software_begins_a_segment_and_measures_the_revision_before_once_more(add: Adding) -> None:
    add(COMMITS[:6])
    add.software = {"torch": "2.14.0"}
    add()
    assert add.order[:2] == [8, 5]
    new = [one.place for one in add.points if one.segment == segment_of(add.software).segment]
    assert new == [0, 5, 6, 7, 8]
