"""The file of a history: merges, torn and damaged lines, and its single writer."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.history.point import Change, Point, Segment, segment_of
from attnbench.history.store import HistoryError, append, history_path, only_writer, read_history
from tests.history.lines import point, revision
from tests.history.repository import Repository


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "key.jsonl"
    change = Change(
        revision=revision(2), before=revision(1), place=2, date="2026-11-01", subject="Sums are kept",
        case_id="c", implementation="mine/plain", device="cpu", label="mine/plain", metric="memory", verdict="bigger",
        sentence="1 MiB more", ratio=2.0,
    )  # fmt: skip
    lines: list[Point | Segment | Change] = [point(1, log_ratio=0.05), segment_of({"torch": "2.13.0"}), change]
    append(path, lines)
    append(path, [point(2)])
    found = read_history(path)
    assert list(found.points) == [point(1, log_ratio=0.05), point(2)]
    assert list(found.segments) == [lines[1]]
    assert list(found.changes) == [change]
    assert found.warnings == []


def test_a_history_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none.jsonl").points == ()


def test_a_line_has_nothing_that_is_absent_and_is_the_same_text_whoever_writes_it() -> None:
    text = point(3).text()
    assert "null" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert len(text) < 600


def test_git_merges_what_two_branches_have_added(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "project")
    (repository.folder / ".gitignore").write_text("")
    (repository.folder / ".gitattributes").write_text("results/history/*.jsonl merge=union\n")
    path = repository.folder / "results" / "history" / "key.jsonl"
    append(path, [point(0)])
    repository.commit("A history begins")
    repository.git("checkout", "--quiet", "-b", "other")
    append(path, [point(1), point(2)])
    repository.commit("One machine adds")
    repository.git("checkout", "--quiet", "main")
    append(path, [point(2), point(3)])
    repository.commit("Another adds")
    repository.git("merge", "--quiet", "other", "-m", "Both")
    assert [one.place for one in read_history(path).points] == [0, 1, 2, 3], "the line of both is there once"


def test_the_attributes_of_this_repository_merge_histories() -> None:
    here = Path(__file__).parents[2]
    said = subprocess.run(
        ["git", "check-attr", "merge", "results/history/v1-0123456789ab.jsonl"], cwd=here, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert said.strip().endswith("merge: union")


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.jsonl"
    append(path, [point(1), point(2)])
    path.write_text(path.read_text()[:-30])
    append(path, [point(3)])
    found = read_history(path)
    assert [one.place for one in found.points] == [1, 3]
    assert len(found.warnings) == 1
    assert "line 2 is left out: it is no JSON" in found.warnings[0]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (b"\xff\xfe", "it is no JSON"),
        (b"[1, 2]", "is left out"),
        (b'{"kind":"point"}', "revision: Field required"),
        (b'{"kind":"secret"}', "is left out"),
        (point(4).text().replace('"place":4', '"place":-1').encode(), "place: "),
        (point(4).text().replace('"v":1', '"v":2').encode(), "v: "),
        (point(4).text().replace(revision(4), "../../etc").encode(), "revision: "),
        (point(4, log_ratio=0.5).text().replace("0.5", "1e999").encode(), "is left out"),
        (b"[" * 100_000, "it is no JSON"),
    ],
)
def test_damage_is_told_and_the_rest_is_read(tmp_path: Path, damage: bytes, sentence: str) -> None:
    path = tmp_path / "key.jsonl"
    path.write_bytes(point(1).text().encode() + b"\n" + damage + b"\n" + point(2).text().encode() + b"\n")
    found = read_history(path)
    assert [one.place for one in found.points] == [1, 2]
    assert len(found.warnings) == 1
    assert sentence in found.warnings[0]


def test_what_a_stranger_wrote_does_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "key.jsonl"
    path.write_text(json.dumps(json.loads(point(1).text()) | {"subject": "red\x1b[31m\n::error::"}) + "\n")
    (found,) = read_history(path).points
    assert found.subject == "red\\x1b[31m\\n\\x3a:error::"


def test_a_pipe_is_no_history(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "key.jsonl")
    with pytest.raises(HistoryError, match="is not a regular file"):
        read_history(tmp_path / "key.jsonl")


@pytest.mark.parametrize("key", ["../up", "", "a/b", ".hidden"])
def test_a_key_that_could_leave_the_folder_is_refused(key: str) -> None:
    with pytest.raises(HistoryError, match="is no name for a machine"):
        history_path(key)


def test_a_history_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "key.jsonl"
    program = (
        "import sys, pathlib\nfrom attnbench.history.store import only_writer\n"
        f"with only_writer(pathlib.Path({str(path)!r}), print):\n    pass\n"
    )
    with only_writer(path, print):
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "is being written by another attnbench" in other.stderr
    subprocess.run([sys.executable, "-c", program], check=True)


def test_where_nothing_locks_the_history_is_written_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    said: list[str] = []
    with only_writer(tmp_path / "key.jsonl", said.append):
        assert "lies where there are no locks (No locks available): write it from one process only" in said[0]


def test_only_what_lies_on_a_branch_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key.jsonl"
    append(path, [point(0), point(1), point(2), point(3, anchor=2)])
    own = read_history(path).on({revision(0), revision(1), revision(3)})
    assert [one.place for one in own.points] == [0, 1], "a point whose anchor is elsewhere says nothing here"


def test_a_segment_tells_what_changed() -> None:
    before, after = segment_of({"torch": "2.12.0", "numba": "0.68"}), segment_of({"torch": "2.13.0", "tbb": "1"})
    assert after.differs_from(before) == ["torch 2.12.0 → 2.13.0", "numba 0.68 → none", "tbb none → 1"]
    assert before.segment != after.segment
    assert isinstance(before, Segment)
