"""The next commit to ask about, and the commits that remain, with scripted judges."""

from __future__ import annotations

from collections.abc import Callable

from attnbench.history.bisecting import Answer, next_commit, suspects
from attnbench.history.choosing import most_informative
from attnbench.history.confirming import Finding, Judgement, confirm

COMMITS = [str(i) for i in range(17)]


def ask(judge: Callable[[int], Answer], commits: list[str] = COMMITS) -> tuple[list[str], list[str]]:
    """Return the commits that a bisection leaves, and those that it asked about."""
    answers: dict[str, Answer] = {}
    while (one := next_commit(commits, answers)) is not None:
        answers[one] = judge(int(one))
    return suspects(commits, answers), list(answers)


def test_each_first_bad_commit_is_found_in_four_looks_of_sixteen() -> None:
    for first_bad in range(1, 17):
        found, asked = ask(lambda i, at=first_bad: "bad" if i >= at else "good")  # type: ignore[misc]  # a default binds it
        assert found == [str(first_bad)]
        assert len(asked) == 4


def test_commits_that_cannot_be_told_are_passed_over() -> None:
    found, asked = ask(lambda i: "cannot_tell" if i in (8, 9) else "bad" if i >= 12 else "good")
    assert found == ["12"]
    assert len(asked) <= 6


def test_a_change_among_commits_that_cannot_be_told_is_one_of_several() -> None:
    found, _ = ask(lambda i: "cannot_tell" if 5 <= i <= 7 else "bad" if i >= 8 else "good")
    assert found == ["5", "6", "7", "8"], "8 is bad, and of 5 to 7 nobody knows"


def test_where_nothing_can_be_told_every_commit_is_asked_once() -> None:
    found, asked = ask(lambda i: "cannot_tell")
    assert found == COMMITS[1:]
    assert sorted(asked, key=int) == COMMITS[1:-1]


def test_neighbours_need_no_look() -> None:
    assert ask(lambda i: "good", ["3", "4"]) == (["4"], [])


class Scripted:
    """A judge that knows the true level of each commit, and is blind for some."""

    def __init__(self, levels: list[float], blind: set[str] = frozenset()) -> None:  # type: ignore[assignment]  # read only
        self.levels = levels
        self.blind = blind
        self.asked: list[tuple[str, str]] = []

    def __call__(self, base: str, head: str) -> Judgement:
        self.asked.append((base, head))
        change = self.levels[int(head)] - self.levels[int(base)]
        if head in self.blind:
            return Judgement(decision="cannot_tell", sentence="too noisy")
        return Judgement(decision="changed" if change > 0.03 else "same", ratio=1 + change)


def confirmed(judge: Scripted) -> Finding:
    return confirm([str(i) for i in range(len(judge.levels))], judge)


def test_a_step_is_confirmed_on_the_commit_and_the_one_before() -> None:
    judge = Scripted([0.0] * 5 + [0.08] * 4)
    found = confirmed(judge)
    assert (found.outcome, found.before, list(found.suspects)) == ("confirmed", "4", ["5"])
    assert judge.asked[0] == ("0", "8")
    assert judge.asked[-1] == ("4", "5")


def test_a_candidate_that_the_gate_does_not_see_costs_one_gate() -> None:
    judge = Scripted([0.0] * 9)
    assert confirmed(judge).outcome == "not_confirmed"
    assert len(judge.asked) == 1


def test_a_creep_is_told_as_one() -> None:
    """Eight commits of 1 % each: the ends differ, but no single commit does."""
    found = confirmed(Scripted([0.01 * i for i in range(9)]))
    assert found.outcome == "spread"
    assert (found.before, len(found.suspects), found.judgement.ratio) == ("0", 8, 1.08)


def test_of_a_step_in_the_dark_several_are_left() -> None:
    found = confirmed(Scripted([0.0] * 4 + [0.08] * 5, blind={"3", "4"}))
    assert (found.outcome, found.before, list(found.suspects)) == ("narrowed", "2", ["3", "4", "5"])


def test_ends_that_cannot_be_told_end_it() -> None:
    assert confirmed(Scripted([0.0, 0.08], blind={"1"})).outcome == "cannot_tell"


def test_two_neighbours_are_one_gate() -> None:
    judge = Scripted([0.0, 0.08])
    assert confirmed(judge).outcome == "confirmed"
    assert judge.asked == [("0", "1")]


def order(changed_at: int | None, wanted: int = 9) -> list[str]:
    """Return the order in which revisions are measured, with the first as anchor."""
    names = [str(i) for i in range(wanted)]
    measured = ["0"]

    def changed(a: str, b: str) -> bool:
        return changed_at is not None and int(a) < changed_at <= int(b)

    while (one := most_informative(names, measured, changed)) is not None:
        measured.append(one)
    return measured[1:]


def test_the_newest_comes_first_then_the_widest_gap() -> None:
    assert order(None)[:4] == ["8", "4", "6", "2"]
    assert sorted(order(None)) == [str(i) for i in range(1, 9)]


def test_a_gap_with_a_change_is_halved_before_all_others() -> None:
    assert order(3)[:4] == ["8", "4", "2", "3"]


def test_revisions_that_cannot_be_measured_are_not_asked_for_again() -> None:
    assert most_informative(["0", "1", "2"], ["0", "2"], lambda a, b: True, past=["1"]) is None
    assert most_informative(["0", "1", "2"], [], lambda a, b: True) == "2"
