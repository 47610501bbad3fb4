"""Runs that are interrupted, killed or started twice: each cell is recorded once, and nothing is left behind."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PLUGINS, Command, records_of

FEW = ("-i", "^naive/numpy$", "-a", "head_dim=8", "-a", "heads=2", "--peaks", "none")
MANY = (*FEW, "-a", "seqlen=16,17,18,19,20,21,22,23", "--replicates", "2")


@pytest.fixture
def in_the_foreground() -> Iterator[None]:
    """Let commands receive Ctrl-C and SIGHUP as on a terminal: in the background or under nohup they ignore them."""
    before = [
        (signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)),
        (signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    ]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def started(attnbench: Command, *arguments: str, command: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start ``attnbench`` in the background, with its own folder for temporary files."""
    temporary = attnbench.folder / "temporary"
    temporary.mkdir()
    return subprocess.Popen(
        [*command, sys.executable, "-m", "attnbench", *arguments],
        cwd=attnbench.folder, env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], object], timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def holds(path: Path, records: int) -> bool:
    return path.exists() and path.read_text().count('"kind":"record"') >= records


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP, signal.SIGHUP], 129),  # as when a terminal is closed
    ],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_what_was_measured_is_kept_and_the_printed_line_resumes_it(
    attnbench: Command, signals: list[signal.Signals], code: int
) -> None:
    process = started(attnbench, "run", *MANY, "--out", "run.jsonl")
    path = attnbench.folder / "run.jsonl"
    wait_for(lambda: holds(path, 3))
    for one in signals:
        process.send_signal(one)
    out, said = process.communicate()
    assert process.returncode == code, said
    assert out == "run.jsonl\n"
    before = records_of(path)
    assert 3 <= len(before) < 16
    assert json.loads(path.read_text().splitlines()[-1])["interrupted"] is True
    assert "attnbench run --resume run.jsonl" in said
    assert list((attnbench.folder / "temporary").iterdir()) == []

    finished = attnbench("run", "--resume", "run.jsonl")
    assert finished.code == 0, finished.err
    after = records_of(path)
    assert after[: len(before)] == before
    cells = [(record["case_id"], record["replicate"]) for record in after]
    assert len(cells) == len(set(cells)) == 16
    assert "nothing to resume" in attnbench("run", "--resume", "run.jsonl").err


IN_A_TERMINAL = """
import os, pty, sys, threading
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "attnbench", *sys.argv[1:]])
def read():
    while os.read(terminal, 4096):
        pass
threading.Thread(target=read, daemon=True).start()
sys.stdin.read()
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os._exit(0)
"""


@pytest.mark.usefixtures("in_the_foreground")
def test_a_run_whose_terminal_is_closed_ends_in_order(attnbench: Command) -> None:
    (attnbench.folder / "temporary").mkdir()
    arguments = ["run", *MANY, "--out", "run.jsonl"]
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *arguments],
        cwd=attnbench.folder, env={**os.environ, "TMPDIR": str(attnbench.folder / "temporary")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    path = attnbench.folder / "run.jsonl"
    wait_for(lambda: holds(path, 1))
    said, _ = process.communicate("")
    assert said == "129\n"
    assert json.loads(path.read_text().splitlines()[-1])["interrupted"] is True
    assert list((attnbench.folder / "temporary").iterdir()) == []


def test_a_run_under_nohup_outlives_its_terminal(attnbench: Command) -> None:
    ignoring = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
    process = started(attnbench, "run", *FEW, "-a", "seqlen=16,17,18", "--out", "run.jsonl", command=ignoring)
    wait_for(lambda: holds(attnbench.folder / "run.jsonl", 1))
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert len(records_of(attnbench.folder / "run.jsonl")) == 3


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "sigkill"])
def test_a_run_that_ends_before_its_first_line_leaves_no_file(attnbench: Command, ending: signal.Signals) -> None:
    process = started(attnbench, "run", *FEW[:-1], "full", "-a", "seqlen=16", "--out", "run.jsonl")

    wait_for(lambda: any("peaks" in command_of(child) for child in children(process.pid)))
    process.send_signal(ending)
    process.communicate()
    assert process.returncode == (143 if ending == signal.SIGTERM else -9)
    assert [path.name for path in attnbench.folder.iterdir()] == ["temporary"]


def test_a_run_file_has_one_writer_and_a_killed_one_holds_nothing(attnbench: Command) -> None:
    process = started(attnbench, "run", *MANY, "--out", "run.jsonl")
    path = attnbench.folder / "run.jsonl"
    wait_for(lambda: holds(path, 1))
    process.send_signal(signal.SIGSTOP)  # so that it is not done before the others have tried
    for arguments in (("--resume", "run.jsonl"), (*FEW, "-a", "seqlen=16", "--out", "run.jsonl", "--force")):
        second = attnbench("run", *arguments)
        assert second.code == 2
        assert second.err == "attnbench: run.jsonl is being written by another attnbench: wait until that has ended\n"
    process.kill()
    process.communicate()
    finished = attnbench("run", "--resume", "run.jsonl")
    assert finished.code == 0, finished.err
    cells = [(record["case_id"], record["replicate"]) for record in records_of(path)]
    assert len(cells) == len(set(cells)) == 16


@pytest.fixture
def begun(attnbench: Command) -> Path:
    """Start a run of a plug-in and a module that it imports, which has one of three records."""
    (attnbench.folder / "mine.py").write_text("import tiles\n" + (PLUGINS / "mine.py").read_text())
    (attnbench.folder / "tiles.py").write_text("SIZE = 64\n")
    attnbench("check", "-p", "mine.py", "-i", "^mine/three-lines$", "-a", "seqlen=16,17,18", "--out", "run.jsonl")
    path = attnbench.folder / "run.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    return path


def test_a_run_goes_on_only_with_the_code_that_it_began_with(attnbench: Command, begun: Path) -> None:
    before, tiles = begun.read_bytes(), attnbench.folder / "tiles.py"
    tiles.write_text("SIZE = 32\n")
    refused = attnbench("run", "--resume", "run.jsonl")
    assert refused.code == 2
    assert refused.err.splitlines()[-1].startswith(
        "attnbench: run.jsonl cannot go on: mine/three-lines has changed since"
    )
    assert str(tiles) in refused.err
    assert begun.read_bytes() == before
    tiles.write_text("SIZE = 64\n")
    finished = attnbench("run", "--resume", "run.jsonl")
    assert finished.code == 0, finished.err
    assert len({(record["case_id"], record["source_hash"]) for record in records_of(begun)}) == 3


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"machine_key": "v1-of-another"}, "it began on another machine ("),
        ({"numpy": "1.0"}, "numpy was 1.0 and is "),
        ({"implementations": {}}, "mine/three-lines was not there when it began"),
    ],
    ids=["machine", "library", "name"],
)
def test_a_run_goes_on_only_where_it_began(
    attnbench: Command, begun: Path, changed: dict[str, object], sentence: str
) -> None:
    first, *rest = begun.read_text().splitlines(keepends=True)
    header = json.loads(first)
    if "numpy" in changed:
        header["environment"]["versions"] |= changed
    else:
        header |= changed
    begun.write_text("".join([json.dumps(header) + "\n", *rest]))
    before = begun.read_bytes()
    refused = attnbench("run", "--resume", "run.jsonl")
    assert refused.code == 2
    assert sentence in refused.err
    assert begun.read_bytes() == before


def test_runs_of_the_same_second_have_names_of_their_own(attnbench: Command) -> None:
    runs = attnbench.folder / "results" / "runs"
    runs.mkdir(parents=True)
    now = datetime.datetime.now(datetime.UTC)
    for second in range(3600):  # whichever second it starts in, its name is taken
        (runs / f"{now + datetime.timedelta(seconds=second):%Y%m%dT%H%M%SZ}-case.jsonl").write_text("taken")
    finished = attnbench("check", *FEW[:-2], "-a", "seqlen=16")
    assert finished.code == 0, finished.err
    assert finished.out.endswith("-case-2.jsonl\n")
    assert len(records_of(attnbench.folder / finished.out.strip())) == 1


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"], ids=["closed", "full", "unread"])
def test_exit_codes_do_not_depend_on_a_stderr_that_takes_nothing(attnbench: Command, stderr: str) -> None:
    def code(*arguments: str) -> int:
        line = f'set -o pipefail; "$@" {stderr}'
        command = ["bash", "-c", line, "bash", sys.executable, "-m", "attnbench", *arguments]
        return subprocess.run(command, cwd=attnbench.folder, stdout=subprocess.DEVNULL, check=False).returncode

    assert code("run", "--nonsense") == 2
    assert code("run", "no-such-scenario") == 2
    assert code("check", *FEW[:-2], "-a", "seqlen=16", "--out", "run.jsonl") == 0
    assert len(records_of(attnbench.folder / "run.jsonl")) == 1


def test_workers_die_with_a_run_that_is_killed(attnbench: Command) -> None:
    hang = ("-p", str(PLUGINS / "faults.py"), "-i", "faults/hang", "-a", "seqlen=64", "-a", "head_dim=8")
    process = subprocess.Popen([sys.executable, "-m", "attnbench", "check", *hang], cwd=attnbench.folder)
    wait_for(lambda: len(children(process.pid)) >= 2)
    workers = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists() and not is_zombie(pid)])


def test_the_exit_code_of_a_resumed_run_is_that_of_all_its_records(attnbench: Command) -> None:
    kernel = (
        "from attnbench import attention\n\n@attention('mine/kernel', framework='numpy')\ndef kernel(q, k, v, case):\n"
    )
    (attnbench.folder / "kernel.py").write_text(
        f"{kernel}    return 0 * q + v[:, :, :1]\n"
    )  # right where there is one key
    path = attnbench.folder / "run.jsonl"
    checked = attnbench(
        "check", "-p", "kernel.py", "-i", "mine", "-a", "seqlen_kv=1,2", "-a", "seqlen_q=2", "--out", path
    )
    assert checked.code == 1, checked.err
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"kind":"footer"' not in line and '"status":"ok"' not in line]
    path.write_text("".join(kept))
    for _ in range(2):  # with a cell left, and without
        assert attnbench("run", "--resume", path).code == 1
