"""``attnbench capture`` with programs that succeed, fail, are interrupted, or disappear."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from attnbench.capturing.launch import Program
from attnbench.errors import UsageError
from attnbench.store.capture import read_capture
from tests.conftest import Command

ATTENTION = """
import os, signal, sys, torch
from torch.nn.functional import scaled_dot_product_attention
q = torch.randn(1, 2, 8, 4)
scaled_dot_product_attention(q, q, q, is_causal=True)
"""


def test_a_script_keeps_its_words_its_output_and_its_exit_code(attnbench: Command) -> None:
    (attnbench.folder / "there").mkdir()
    (attnbench.folder / "there/beside.py").write_text("WORD = 'beside'")
    (attnbench.folder / "there/script.py").write_text(
        f"{ATTENTION}import beside\nprint(__name__, sys.argv, beside.WORD)\nsys.exit(7)\n"
    )
    done = attnbench.process(
        "capture", "--out", "out", "--", sys.executable, "-u", "there/script.py", "--out", "-x", "1"
    )
    assert (done.code, done.out) == (7, "__main__ ['there/script.py', '--out', '-x', '1'] beside\n")
    assert "1 attention call of 1 shape: " in done.err
    assert "call-1       1   —        forward b1 h2 s8 d4 float32 causal" in done.err
    assert done.err.endswith("Next: attnbench replay out\n")
    assert read_capture(attnbench.folder / "out").command.endswith("script.py --out -x 1")
    assert {path.name for path in attnbench.folder.iterdir()} == {"there", "out"}


def test_a_module_that_raises_shows_its_own_traceback(attnbench: Command) -> None:
    (attnbench.folder / "mine.py").write_text(f"{ATTENTION}def oops():\n    raise KeyError('mine')\noops()\n")
    done = attnbench.process("capture", "--out", "out", "--", "-m", "mine")
    assert (done.code, done.out) == (1, "")
    assert "KeyError: 'mine'" in done.err
    assert "in oops" in done.err
    assert "attnbench/capturing" not in done.err
    assert [call.calls for call in read_capture(attnbench.folder / "out").calls] == [1]


def test_what_was_captured_of_a_program_that_is_ended_is_written(attnbench: Command) -> None:
    line = f"{ATTENTION}\nos.kill(os.getpid(), signal.SIGTERM)\nprint('never')\n"
    done = attnbench.process("capture", "--out", "out", "--", "-c", line)
    assert (done.code, done.out) == (143, "")
    assert "Traceback" not in done.err
    assert [call.calls for call in read_capture(attnbench.folder / "out").calls] == [1]


def test_a_line_defines_what_pickle_finds_and_its_threads_are_waited_for(attnbench: Command) -> None:
    line = (
        f"{ATTENTION}import pickle, threading, time\nclass Mine(torch.nn.Module):\n"
        "    def forward(self):\n        return scaled_dot_product_attention(q, q, q)\n"
        "mine = pickle.loads(pickle.dumps(Mine()))\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), mine())).start()\n"
    )
    done = attnbench.process("capture", "--out", "out", "--", "-c", line)
    assert (done.code, done.out) == (0, ""), done.err
    assert sum(call.calls for call in read_capture(attnbench.folder / "out").calls) == 2


def test_of_a_program_that_vanishes_nothing_is_left(attnbench: Command) -> None:
    done = attnbench.process("capture", "--out", "in/out", "--", "-c", f"{ATTENTION}\nos._exit(0)\n")
    assert done.code == 2
    assert done.err == "attnbench: the program ended with exit code 0 before its capture was written\n"
    assert not list(attnbench.folder.iterdir())


def test_a_program_without_attention_is_told_so(attnbench: Command) -> None:
    done = attnbench.process("capture", "--out", "out", "--", "-c", "import torch; torch.ones(3).softmax(0)")
    assert done.code == 5
    assert "No attention was captured." in done.err
    assert "replay" not in done.err


def test_the_words_of_a_program(tmp_path: Path) -> None:
    own = sys.executable
    assert Program.of(["script.py", "-x"]) == Program(own, (), "script", ("script.py", "-x"))
    assert Program.of([own, "-X", "dev", "-O", "-m", "a.b", "-c"]) == Program(
        own, ("-X", "dev", "-O"), "module", ("a.b", "-c")
    )
    script = tmp_path / "tool"
    script.write_text(f"#!{own}\n")
    script.chmod(0o755)
    assert Program.of([str(script), "x"]) == Program(own, (), "script", (str(script), "x"))
    for words, message in (
        ([], "which program"), ([own], "which program"), (["-m"], "which program"),
        (["/bin/sh", "x"], "is no Python program"),
        (["python0.1", "x.py"], "there is no program python0.1"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            Program.of(words)


def test_mistakes_on_the_line_are_told_before_the_program_starts(attnbench: Command) -> None:
    for words, message in (
        (["--out", "out", "--", "/bin/sh", "-c", "touch ran"], "/bin/sh is no Python program"),
        (["--out", "out", "--", "absent.py"], "there is no file absent.py"),
        (["--out", "out", "--tensors", "-1", "--", "x.py"], "tensors = -1 is neither none, first, nor a number"),
        (["--out", ".", "--", "x.py"], ". exists already; and it is no capture"),
    ):
        done = attnbench("capture", *words)
        assert done.code == 2
        assert message in done.err
    assert not list(attnbench.folder.iterdir())
