"""``--watch`` checks again after each edit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PLAIN, Command

KERNEL = """
import numpy as np
from attnbench import attention
from weigh import weigh

@attention("mine/kernel", framework="numpy")
def kernel(q, k, v, case):
    return weigh(q @ k.swapaxes(-1, -2) * case.scale) @ v
"""
RIGHT = """
import numpy as np
def weigh(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
"""
WITHIN_S = 600


@pytest.fixture
def watching(attnbench: Command) -> Iterator[subprocess.Popen[str]]:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    (attnbench.folder / "weigh.py").write_text(RIGHT)
    words = ["check", "-p", "kernel.py", "-i", "mine", "-a", "seqlen=16", "--watch"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (attnbench.folder / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "attnbench", *words],
            cwd=attnbench.folder, env={**os.environ, **PLAIN}, stdout=subprocess.DEVNULL, stderr=err, text=True,
        )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    yield process
    process.kill()
    process.wait()


def wait_for(text: str, file: Path, behind: int = 0) -> int:
    """Wait until a file contains a text after position ``behind``, and return the position after the text."""
    deadline = time.monotonic() + WITHIN_S
    while (at := file.read_text().find(text, behind)) < 0:
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)
    return at + len(text)


def test_each_edit_is_checked_and_its_changes_told(attnbench: Command, watching: subprocess.Popen[str]) -> None:
    err, weigh = attnbench.folder / "err", attnbench.folder / "weigh.py"
    place = wait_for("waiting for a change", err)
    assert "1 ok" in err.read_text()
    weigh.write_text(RIGHT.replace("weights.sum(-1, keepdims=True)", "1"))
    place = wait_for("s16 d64 float32: wrong, was ok", err, place)
    place = wait_for("waiting for a change", err, place)
    weigh.write_text("def weigh(:")
    place = wait_for("plug-in", err, place)
    weigh.write_text(RIGHT)
    place = wait_for(": ok, was wrong", err, place)
    place = wait_for("waiting for a change", err, place)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(WITHIN_S) == 0, err.read_text()
    assert "Traceback" not in err.read_text()
    assert len(list((attnbench.folder / "results" / "runs").iterdir())) == 3


def test_without_a_plug_in_there_is_nothing_to_wait_for(attnbench: Command) -> None:
    finished = attnbench("check", "-i", "^naive/numpy$", "-a", "seqlen=8", "--watch")
    assert finished.code == 2
    assert "no plug-in was run" in finished.err
