"""What all tests share: the command as a real process, and the records of a run that it made."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).parent.parent
PLUGINS = Path(__file__).parent / "plugins"

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
    """``attnbench`` in a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str | Path, **variables: str) -> Finished:
        """Run to the end."""
        done = subprocess.run(
            [sys.executable, "-m", "attnbench", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **variables},
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
