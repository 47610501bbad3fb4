"""Runs a user's program in its own process under capture."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.runner.interrupts import Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from attnbench.capturing.program import Start

_PYTHON = re.compile(r"python[0-9.]*(\.exe)?$")
_WITH_A_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_HINT = "attnbench ... -- python script.py, or -- script.py, or -- -m module"


@dataclasses.dataclass(frozen=True)
class Program:
    """A Python program, parsed from its command line."""

    python: str
    options: tuple[str, ...]
    """The interpreter's options."""
    start: Start
    words: tuple[str, ...]
    """The script, module or code, and its arguments."""

    @classmethod
    def of(cls, words: Sequence[str]) -> Program:
        """Parse a command line.

        Raises:
            UsageError: if it does not start a Python program.
        """
        rest = list(words)
        python = sys.executable
        if rest and _PYTHON.search(rest[0]):
            found = shutil.which(rest.pop(0))
            if found is None:
                raise UsageError(f"there is no program {words[0]}")
            python = found
        options: list[str] = []
        while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
            options.append(rest.pop(0))
            if options[-1] in _WITH_A_VALUE and rest:
                options.append(rest.pop(0))
        start: Start = "script"
        if rest and rest[0] in ("-m", "-c"):
            start = "module" if rest.pop(0) == "-m" else "code"
        if not rest or rest[0] == "-":
            raise UsageError(f"which program? {_HINT}")
        if start == "script" and not rest[0].endswith((".py", ".pyc", ".pyz")):
            script = shutil.which(rest[0])
            if script is None or not _is_python(script):
                raise UsageError(f"{rest[0]} is no Python program: {_HINT}")
            rest[0] = script
        return cls(python, tuple(options), start, tuple(rest))

    def run(self, runner: str, settings: DataclassInstance) -> int:
        """Run it, and wait.

        Args:
            runner: the module that runs it, of the two arguments settings and words.
            settings: a data class, which that module reads as JSON.

        Returns:
            Its exit code, or 128 plus the number of the signal that ended it.

        Raises:
            UsageError: if the script does not exist, or its Python has no attnbench.
        """
        if self.start == "script" and not Path(self.words[0]).exists():
            raise UsageError(f"there is no file {self.words[0]}")
        self._require_attnbench()
        line = [self.python, *self.options, "-m", runner, json.dumps(dataclasses.asdict(settings)), *self.words]
        child = subprocess.Popen(line)
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt as interrupt:  # let the program end in its own way and write the capture
                child.send_signal(interrupt.number if isinstance(interrupt, Interrupted) else 2)
            else:
                return code if code >= 0 else 128 - code

    def _require_attnbench(self) -> None:
        if self.python == sys.executable:
            return
        found = subprocess.run([self.python, "-c", "import attnbench"], capture_output=True, check=False)
        if found.returncode:
            hint = f"install it there, or leave that word out to use {shlex.quote(sys.executable)}"
            raise UsageError(f"{shlex.quote(self.python)} has no attnbench: {hint}")


def _is_python(path: str) -> bool:
    """Whether a program is a Python script by its first line, like those that pip installs."""
    with Path(path).open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first
