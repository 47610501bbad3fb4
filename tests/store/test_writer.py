"""A run file grows line by line, and stored lines are never damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.store.writer import RunFileBusyError, RunWriter

ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from attnbench.store.writer import RunWriter

# No file may grow beyond 100 bytes: the system answers a write as it does on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
writer = RunWriter.create(Path(sys.argv[1]), {"n": 0, "filler": "x" * 20})
for n in range(1, 9):
    writer.append({"n": n, "filler": "x" * 20})
print(len(writer.pending), writer.problem)
if sys.argv[2] == "room again":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    writer.append({"n": 9})
    print(len(writer.pending), writer.problem)
"""


def on_a_full_disk(path: Path, then: str) -> str:
    """Write nine lines in a process with a limit on file sizes, and return its output."""
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path), then]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run.jsonl", {"n": 0})
    assert lines(writer.path) == [{"n": 0}]
    for n in range(1, 3):
        writer.append({"n": n})
        assert lines(writer.path) == [{"n": m} for m in range(n + 1)]


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("kept")
    with pytest.raises(FileExistsError):
        RunWriter.create(tmp_path / "run.jsonl", {})
    assert (tmp_path / "run.jsonl").read_text() == "kept"


def test_force_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("old")
    RunWriter.create(tmp_path / "run.jsonl", {"new": 1}, force=True)
    assert lines(tmp_path / "run.jsonl") == [{"new": 1}]


def test_on_a_full_disk_earlier_lines_stay_whole_and_the_rest_waits(tmp_path: Path) -> None:
    said = on_a_full_disk(tmp_path / "run.jsonl", "nothing")
    assert lines(tmp_path / "run.jsonl") == [{"n": n, "filler": "x" * 20} for n in range(2)]
    assert said == f"7 {tmp_path / 'run.jsonl'} cannot be written: File too large\n"


def test_what_waited_is_stored_when_there_is_room_again(tmp_path: Path) -> None:
    said = on_a_full_disk(tmp_path / "run.jsonl", "room again")
    assert [line["n"] for line in lines(tmp_path / "run.jsonl")] == list(range(10))
    assert said.splitlines()[1] == "0 None"


def test_resuming_cuts_a_torn_line_off_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"n":0}\n{"n":1}\n{"n":2,"torn":')
    before = path.read_bytes()
    writer = RunWriter.resume(path)
    assert path.read_bytes() == before, "it may turn out to be no run file at all"
    writer.append({"n": 3})
    assert [line["n"] for line in lines(path)] == [0, 1, 3]


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunWriter.create(tmp_path / "run.jsonl", {}).append({"time": float("nan")})


def test_a_writer_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from attnbench.store.writer import RunWriter\n"
        "writer = RunWriter.create(Path(sys.argv[1]), {'n': 0})\n"
        "for n in range(1, 50): writer.append({'n': n})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "run.jsonl"], check=False)
    assert done.returncode == -9
    assert [line["n"] for line in lines(tmp_path / "run.jsonl")] == list(range(50))


def test_an_interrupt_at_any_moment_stores_no_line_twice_and_tears_none(tmp_path: Path) -> None:
    program = (
        "import random, signal, sys; from pathlib import Path; from attnbench.store.writer import RunWriter\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "writer, interrupts = RunWriter.create(Path(sys.argv[1]), {'n': 0}), 0\n"
        "for n in range(1, 400):\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))\n"
        "        writer.append({'n': n, 'filler': 'x' * 1000})\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "    except KeyboardInterrupt:\n"
        "        interrupts += 1\n"
        "writer.append({'n': 400})\n"
        "print(interrupts)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "run.jsonl"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    stored = [int(str(line["n"])) for line in lines(tmp_path / "run.jsonl")]
    interrupts = int(done.stdout)
    assert interrupts > 0
    assert stored == sorted(set(stored))
    assert len(stored) >= 401 - interrupts, "what was not interrupted is stored"


HOLD = """
import sys, time
from pathlib import Path
from attnbench.store.writer import RunWriter

writer = RunWriter.create(Path(sys.argv[1]), {"n": 0})
print("holds it", flush=True)
time.sleep(3600)
"""


def test_a_file_that_another_process_writes_is_refused_until_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    other = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        for write in (RunWriter.resume, lambda path: RunWriter.create(path, {}, force=True)):
            with pytest.raises(RunFileBusyError, match=r"run.jsonl is being written by another attnbench"):
                write(path)
        assert lines(path) == [{"n": 0}]
        other.kill()  # no chance to release the lock
    RunWriter.resume(path).append({"n": 1})
    assert lines(path) == [{"n": 0}, {"n": 1}]


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").touch()  # as mktemp makes it
    RunWriter.create(tmp_path / "run.jsonl", {"n": 0})
    assert lines(tmp_path / "run.jsonl") == [{"n": 0}]


def test_no_file_is_left_where_its_first_line_cannot_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    program = ON_A_FULL_DISK.replace('"x" * 20', '"x" * 200')
    done = subprocess.run([sys.executable, "-c", program, path, ""], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("name", ["fifo", "folder", "file/run.jsonl"])
def test_what_cannot_become_a_run_file_is_found_out_before_and_left_alone(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((FileExistsError, NotADirectoryError)):
        RunWriter.require_room(tmp_path / name, force=True)
    assert sorted(tmp_path.iterdir()) == before


def test_looking_for_room_leaves_nothing_behind(tmp_path: Path) -> None:
    RunWriter.require_room(tmp_path / "runs" / "run.jsonl", force=False)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_line_that_cannot_even_be_taken_back_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run.jsonl", {"n": 0})
    whole, read_only = os.dup(writer._fd), os.open(writer.path, os.O_RDONLY)
    os.dup2(read_only, writer._fd)
    writer.append({"n": 1})
    assert writer.problem is not None
    assert len(writer.pending) == 1
    os.dup2(whole, writer._fd)
    writer.append({"n": 2})
    assert lines(writer.path) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_file_that_cannot_be_locked_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        RunWriter(tmp_path / "run.jsonl", os.O_CREAT)
    assert not [one for one in Path("/proc/self/fd").iterdir() if one.exists() and one.samefile(tmp_path / "run.jsonl")]
