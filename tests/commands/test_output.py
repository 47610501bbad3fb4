"""Standard output may have a small character set, be full or closed, or have a reader that stops early."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, Command

RUN = REPOSITORY / "results/reference/cpu-race.jsonl"


@pytest.mark.parametrize(("encoding", "form"), [("ascii", "terminal"), ("cp850", "markdown"), ("latin-1", "terminal")])
def test_what_an_encoding_lacks_is_written_in_other_words(attnbench: Command, encoding: str, form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", "show", RUN, "-f", form],
        env={"PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode(encoding)
    time, speedup = ("386 us", "1.53x") if encoding == "ascii" else ("386 µs", "1.53×")
    assert time in said
    assert speedup in said
    assert "\\u" not in said


def test_what_stderr_lacks_is_written_in_other_words_too(attnbench: Command) -> None:
    axes = ("-a", "seqlen=16", "-a", "heads=1", "-a", "head_dim=8")
    names = ("-i", "naive/numpy", "-i", "naive/torch")
    ended = attnbench.process("run", *names, *axes, "--peaks", "none", PYTHONIOENCODING="ascii")
    assert ended.code == 0, ended.err
    assert "us" in ended.err
    assert "..." in ended.err
    assert "\\" not in ended.err


def test_json_stays_json_whatever_the_encoding(attnbench: Command) -> None:
    (attnbench.folder / "naïve µ.jsonl").write_bytes(RUN.read_bytes())
    said = attnbench.process("show", "naïve µ.jsonl", "--json", PYTHONIOENCODING="ascii")
    assert '"path": "na\\u00efve \\u00b5.jsonl"' in said.out


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("show {run} > /dev/full", 2, "standard output cannot be written: No space left on device"),
        ("list scenarios > /dev/full", 2, "standard output cannot be written: No space left on device"),
        ("list implementations >&-", 2, "standard output cannot be written: it is closed"),
        ("schema record | true", 0, ""),
        (
            "run -i ^naive/numpy$ -a seqlen=16 --out kept.jsonl > /dev/full",
            0,
            "the run is in kept.jsonl; standard",
        ),
    ],
)
def test_what_nobody_takes_is_said_in_a_sentence(attnbench: Command, line: str, code: int, sentence: str) -> None:
    command = line.format(run=shlex.quote(str(RUN)))
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m attnbench {command}; exit ${{PIPESTATUS[0]}}"],
        cwd=attnbench.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["run --help", f"show {shlex.quote(str(RUN))}", "--help"])
def test_a_reader_who_has_seen_enough_is_no_failure(attnbench: Command, words: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m attnbench {words} | head -1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
