"""Ask the probe (:mod:`attnbench.machine.probe`) in a process with a worker's settings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from attnbench.machine.hardware.pinning import worker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT_S = 600.0


def ask_probe(question: str, threads: int, *arguments: str) -> Mapping[str, Any]:
    """Ask the probe, in a process with a worker's settings; a failure gives ``{"failed": sentence}``."""
    # -P keeps modules in the user's folder, such as a statistics.py, from shadowing Python's own.
    command = [sys.executable, "-P", "-m", "attnbench.machine.probe", question, str(threads), *arguments]
    return answer_of(command, worker_environment(threads), _TIMEOUT_S)


def answer_of(command: Sequence[str], variables: Mapping[str, str], timeout_s: float) -> Mapping[str, Any]:
    """Return the JSON object on the last line of a command's output, or ``{"failed": sentence}``."""
    try:
        done = subprocess.run(
            list(command),
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"the probe took more than {timeout_s:.0f} s"}
    except OSError as error:
        return {"failed": f"the probe could not be started: {error}"}
    lines = done.stdout.splitlines()
    try:
        answer = json.loads(lines[-1]) if lines and done.returncode == 0 else None
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    ended = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
    words = done.stderr.strip().splitlines()
    return {"failed": f"the probe {ended}: {words[-1] if words else 'it left no message'}"}
