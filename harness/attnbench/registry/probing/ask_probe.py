"""Ask the probe (:mod:`attnbench.registry.probe`) for a plug-in's declarations."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from attnbench.registry.found import Found, Origin, RegistryError, from_json
from attnbench.registry.probing.remembered_probe import remember, remembered
from attnbench.untrusted.printable import printable
from attnbench.untrusted.processes import end_marked, marked

if TYPE_CHECKING:
    from collections.abc import Callable

_PROBE_TIMEOUT_S = 120.0
_GOODBYE_S = 10.0
"""Time for a process to end after closing its pipe."""
_POLL_S = 0.1
_LONG_S = 8.0
"""Longer than an import of torch takes, even under load."""


def ask_probe(origin: Origin, name_if_broken: str, say: Callable[[str], object] = lambda sentence: None) -> list[Found]:
    """Describe a plug-in in a separate process, which isolates its side effects.

    The answer is cached and reused while the plug-in's files are unchanged. ``say`` shows a message if the import takes
    long.
    """

    def broken(reason: str) -> list[Found]:
        return [Found(name=name_if_broken, origin=origin, unavailable=reason)]

    if (known := remembered(origin)) is not None:
        return known
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-P", "-m", "attnbench.registry.probe"]
    command += [str(write_fd), origin.kind, origin.target]
    variables, mark = marked(os.environ)
    process = subprocess.Popen(
        command,
        env=variables,
        pass_fds=[write_fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(write_fd)
    try:
        waiting = f"waiting for the import of {origin}, for {_PROBE_TIMEOUT_S:.0f} s at most"
        text = _first_line(read_fd, process, time.monotonic() + _PROBE_TIMEOUT_S, lambda: say(waiting))
        code = process.wait(_GOODBYE_S) if not text else 0
    except subprocess.TimeoutExpired:
        return broken(f"importing it took more than {_PROBE_TIMEOUT_S:.0f} s")
    finally:
        os.close(read_fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # threads and children of the plug-in may still be running
        process.wait()
        end_marked(mark)
    if code < 0:
        return broken(f"importing it crashed with {signal.Signals(-code).name}")
    if not text:
        return broken(f"importing it ended the process with exit code {code}")
    try:
        answer = json.loads(text)
        if "raised" in answer:
            return broken(f"importing it raised {printable(answer['raised'])}")
        if "declaration_error" in answer and origin.kind == "entry_point":
            return broken(answer["declaration_error"])
        found = [from_json(one) for one in answer.get("found", ())]
    except (ValueError, TypeError, KeyError, AttributeError):
        return broken("it wrote into the protocol's pipe")
    if "declaration_error" in answer:
        raise RegistryError(f"{origin}: {answer['declaration_error']}")
    if found and answer["refused"] == len(found):
        raise RegistryError(f"{origin}: " + "; ".join(f"{one.name}: {one.unavailable}" for one in found))
    if answer.get("lasts"):
        remember(origin, found)
    return found


def _first_line(fd: int, process: subprocess.Popen[bytes], deadline: float, waits: Callable[[], object]) -> bytes:
    """Return the first line that the process writes, or nothing if it ends without one.

    ``waits`` is called once if that takes long.

    Raises:
        subprocess.TimeoutExpired: if it neither writes a line nor ends in time.
    """
    text, told_at = b"", time.monotonic() + _LONG_S
    while not text.endswith(b"\n"):
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, _PROBE_TIMEOUT_S)
        if time.monotonic() > told_at:
            waits()
            told_at = deadline
        ended = process.poll() is not None  # asked first: what it wrote before its end is there to be read
        if select.select([fd], [], [], 0 if ended else _POLL_S)[0]:
            data = os.read(fd, 1 << 16)
            if not data:
                return b""
            text += data
        elif ended:
            return b""  # a child of the plug-in may hold the pipe open
    return text
