"""``attnbench history`` as a user types it, in a repository of five commits, one of which needs 1 MiB more."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from attnbench.history.store import read_history
from tests.conftest import Command, Finished
from tests.history.repository import KERNEL, Repository

pytestmark = pytest.mark.slow
MIB = 2**20
HUNGRY = KERNEL.replace("    scores =", "    kept = np.ones(1 << 18, np.float32)\n    scores =").replace(
    "@ v\n", "@ v * kept[0]\n"
)
"""The same kernel with 1 MiB that it does not need."""
SCENARIO = """
description = "One cell, weighed and not timed."
stages = ["agreement", "memory"]
[axes]
seqlen = [32]
"""
CELLS = ("one.toml", "-i", "^mine/", "--cache-dir", "cache")


@dataclasses.dataclass(frozen=True)
class Told:
    """The outputs of the commands, in order."""

    repository: Repository
    attnbench: Command
    added: Finished
    found: Finished

    @property
    def path(self) -> Path:
        (path,) = (self.repository.folder / "results" / "history").glob("*.jsonl")
        return path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Run the commands: every second commit is measured; the search measures others as needed."""
    repository = Repository(tmp_path_factory.mktemp("history") / "project")
    (repository.folder / "one.toml").write_text(SCENARIO)
    repository.commit("The kernel", kernel=KERNEL)
    repository.commit("A remark", kernel=f"{KERNEL}# one\n")
    repository.commit("Another remark", kernel=f"{KERNEL}# two\n")
    repository.commit("Ones are kept for later", kernel=HUNGRY)
    repository.commit("A third remark", kernel=f"{HUNGRY}# three\n")
    attnbench = Command(repository.folder)
    first = repository.commits[0]
    added = attnbench("history", "add", *CELLS, "--since", first, "--every", "2", "--rounds", "3")
    found = attnbench("history", "find", *CELLS, "--rounds", "3", "--confirm", "3")
    return Told(repository, attnbench, added, found)


def test_every_second_commit_is_measured_with_the_first(told: Told) -> None:
    assert told.added.code == 0, told.added.err
    commits = told.repository.commits
    points = read_history(told.path).points
    assert [point.revision for point in points] == [commits[0], commits[2], commits[4]]
    assert {point.anchor for point in points} == {commits[0]}
    assert [point.status for point in points] == ["ok"] * 3
    peaks = [point.memory_peak_bytes or 0 for point in points]
    assert peaks[2] - peaks[1] > MIB / 2
    assert all((point.error_ratio or 0) < 1 and point.first_call_ns for point in points)


def test_the_newest_is_measured_before_what_lies_between(told: Told) -> None:
    lines = [line for line in told.added.err.splitlines() if " remark" in line]
    assert ["third" in line for line in lines] == [True, False]


def test_the_commit_is_found_and_named_without_being_told(told: Told) -> None:
    assert told.found.code == 1, told.found.err
    assert "1 change confirmed by the gate" in told.found.out
    assert f"{told.repository.commits[3][:10]} Ones are kept for later: mine/plain, " in told.found.out
    assert "bigger" in told.found.out
    (change,) = read_history(told.path).changes
    assert (change.revision, change.before) == (told.repository.commits[3], told.repository.commits[2])
    assert (change.metric, change.verdict) == ("memory", "bigger")


def test_what_is_known_is_told_again_without_measuring(told: Told) -> None:
    before = told.path.read_bytes()
    again = told.attnbench("history", "find", *CELLS)
    assert again.code == 1
    assert "round" not in again.err
    assert told.attnbench("history", "add", *CELLS, "--every", "2", "--rounds", "3").code == 0
    assert told.path.read_bytes() == before


def test_the_terminal_shows_the_line_with_the_change(told: Told) -> None:
    shown = told.attnbench("history", "show")
    assert shown.code == 0
    assert re.search("[▁-▇]{2}█ ", shown.out), shown.out
    assert "Ones are kept for later" in shown.out


def test_the_page_is_offline_and_links_to_the_diff(told: Told) -> None:
    pytest.importorskip("vl_convert", reason="attnbench[report] is not installed")
    link = "https://example.org/kernels/commit/{revision}"
    written = told.attnbench("history", "page", "--out", "page", "--link", link)
    assert written.code == 0, written.err
    text = (told.repository.folder / written.out.strip()).read_text()
    assert f'href="https://example.org/kernels/commit/{told.repository.commits[3]}"' in text
    assert "Ones are kept for later" in text
    assert 'src="http' not in text
    assert "<link" not in text
    assert (told.repository.folder / "page" / "history-1.svg").is_file()
    refused = told.attnbench("history", "page", "--out", "page")
    assert refused.code == 2
    assert "exists already" in refused.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "one.toml", "-i", "^other/", "--since", "nowhere"], "nowhere is no revision"),
        (["add", "one.toml", "-x", "nothing"], "since which commit?"),
        (["add", "one.toml", "--every", "0"], "every 0 commits"),
        (["add", "one.toml", "--rounds", "2"], "2 rounds are too few"),
        (["add", "one.toml", "--until", "nowhere"], "nowhere is neither a revision"),
        (["find", "one.toml", "-x", "nothing"], "has no points of these cells"),
        (["bisect", "one.toml", "--cell", "mine", "--good", "HEAD"], "are one commit"),
        (["bisect", "one.toml", "--cell", "theirs", "--good", "HEAD~1"], "'theirs' names no cell of the history"),
        (["bisect", "one.toml", "--cell", "mine", "--good", "nowhere"], "nowhere is no revision"),
        (["show", "--since", "nowhere"], "nowhere is no revision"),
        (["show", "--file", "none.jsonl"], "none.jsonl has no points yet"),
        (["page", "--link", "javascript:alert(1)", "--out", "other"], "begins with https://"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(told: Told, arguments: list[str], sentence: str) -> None:
    before = told.path.read_bytes()
    done = told.attnbench("history", *arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert told.path.read_bytes() == before
    assert not (told.repository.folder / "other").exists()


def test_outside_of_a_repository_there_is_no_history(attnbench: Command) -> None:
    done = attnbench("history", "add", "--since", "HEAD~1")
    assert done.code == 2
    assert "this is no git repository: a history is one of commits" in done.err
    assert not (attnbench.folder / "results").exists()
