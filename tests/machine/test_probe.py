"""A probe that fails is a value with a sentence."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.ask_probe import answer_of, ask_probe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def answer(code: str, timeout_s: float = 600) -> Mapping[str, Any]:
    return answer_of([sys.executable, "-c", code], os.environ, timeout_s)


def test_the_answer_is_the_last_line_whatever_libraries_print_before() -> None:
    assert answer("""print('a library says hello'); print('{"x": 1}')""") == {"x": 1}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no such dtype')", "the probe ended with 1: ValueError: no such dtype"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "the probe was killed by signal 9: it left no message",
        ),
        ("""print('{"x": 1}'); raise SystemExit(3)""", "the probe ended with 3: it left no message"),
        ("print('not JSON')", "the probe ended with 0: it left no message"),
        ("print('[1]')", "the probe ended with 0: it left no message"),
        ("pass", "the probe ended with 0: it left no message"),
    ],
)
def test_a_probe_that_fails_says_how(code: str, reason: str) -> None:
    assert answer(code) == {"failed": reason}


def test_a_probe_that_hangs_is_ended() -> None:
    assert answer("import time; time.sleep(600)", timeout_s=1) == {"failed": "the probe took more than 1 s"}


def test_a_probe_that_cannot_be_started_says_so() -> None:
    assert "could not be started" in answer_of(["/no/such/python"], {}, 1)["failed"]


def test_a_question_that_the_probe_does_not_know_is_a_failure() -> None:
    assert "knows no question 'colour'" in ask_probe("colour", 1)["failed"]


def test_files_in_the_users_folder_do_not_stand_in_for_pythons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statistics.py").write_text("raise SystemExit('the wrong statistics')")
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    monkeypatch.chdir(tmp_path)
    assert "failed" not in ask_probe("libraries", 1)
