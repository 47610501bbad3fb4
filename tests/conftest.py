"""What all tests share: the command, and the records of a run that it made."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from attnbench.cli.main import exit_code
from attnbench.machine import environment

REPOSITORY = Path(__file__).parent.parent
PLUGINS = Path(__file__).parent / "plugins"
PLAIN = {"NO_COLOR": "1", "COLUMNS": "200"}
"""What makes a command's output the same in every terminal."""

# An example may take as long as the machine lets it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@dataclasses.dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Command:
    """``attnbench`` as it is typed, in a folder of its own.

    The command line runs in this process, where its imports are paid for once; workers, oracle and probes are
    processes, as ever. :meth:`process` runs the command line in a process, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str | Path) -> Finished:
        """Run to the end."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["attnbench", *map(str, arguments)])
            for name, value in PLAIN.items():
                patch.setenv(name, value)
            warnings.resetwarnings()  # to what a process of its own has: pytest makes errors of them
            warnings.simplefilter("ignore")
            try:
                code = exit_code(sys.argv[1:])
            except SystemExit as end:
                code = int(end.code or 0)
        return Finished(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str | Path, **variables: str) -> Finished:
        """Run to the end in a process of its own, with these environment variables."""
        done = subprocess.run(
            [sys.executable, "-m", "attnbench", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **PLAIN, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def records_of(path: Path) -> list[dict[str, Any]]:
    """The records of a run file, as JSON, read without attnbench."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "record"]


@pytest.fixture
def attnbench(tmp_path: Path) -> Command:
    """The command, run in the test's own folder."""
    return Command(tmp_path)


@pytest.fixture(scope="module")
def module_attnbench(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command, run in a folder that the tests of a module share."""
    return Command(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session", autouse=True)
def _libraries_are_described_once() -> Iterator[None]:
    """They are the same for every run file, and asking for them starts a process that imports torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "ask_probe", functools.cache(environment.ask_probe))
        yield


def pytest_collection_finish() -> None:
    """One thread for what runs in this process: problems this small only wait for each other's threads."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


_frozen = 0


def pytest_runtest_teardown() -> None:
    """Hide from the collector of garbage what was imported: sessions collect, a fifth of a second each without this."""
    global _frozen  # noqa: PLW0603 - how many modules this process had at the last time
    if len(sys.modules) != _frozen:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()
