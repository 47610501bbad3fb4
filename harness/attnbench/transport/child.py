"""A child process as the parent sees it: asked over a pipe, watched, and killed with all its descendants.

The parent sleeps until the child answers, dies, or runs out of time or memory; it never spins beside measured code.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POLL_S = 0.1
_LOG_TAIL_BYTES = 4000
_FAULT_HANDLER = (
    'File "',
    "Fatal Python error",
    "Thread 0x",
    "Current thread",
    "Extension modules",
    "<no Python frame>",
)
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "Cannot allocate memory", "can't allocate memory", "MemoryError")


class ChildGoneError(Exception):
    """The child did not answer, and is dead now. ``status`` and ``reason`` say how it ended."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Child:
    """A process that answers one JSON line for each that it is sent."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str | None = None) -> None:
        """Start ``command`` in ``folder``, with the two pipes' descriptors inserted for ``{read}`` and ``{write}``."""
        child_reads, self._write_fd = os.pipe()
        self._read_fd, child_writes = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self._buffer = b""
        try:
            self._process = subprocess.Popen(
                [part.format(read=child_reads, write=child_writes) for part in command],
                env=dict(environment),
                cwd=folder,
                pass_fds=[child_reads, child_writes],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        finally:
            os.close(child_reads)
            os.close(child_writes)

    def ask(self, request: Mapping[str, Any], timeout_s: float, memory_bytes: int | None = None) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Args:
            request: JSON-ready.
            timeout_s: how long the child may take; beyond, it is killed.
            memory_bytes: resident size at which it is killed.

        Raises:
            ChildGoneError: when it crashed, hung, or grew too large.
        """
        self.send(request)
        return self.receive(timeout_s, memory_bytes)

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request without waiting; its answer is the next one that :meth:`receive` returns."""
        data = json.dumps(request).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._write_fd, data) :]
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self, timeout_s: float, memory_bytes: int | None = None) -> dict[str, Any]:
        """Wait for the answer to the oldest request that has none yet; as :meth:`ask`."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill()
                raise ChildGoneError("timeout", f"it took more than {timeout_s:.3g} s and was killed")
            ready, _, _ = select.select([self._read_fd], [], [], min(_POLL_S, left))
            if ready:
                data = os.read(self._read_fd, 1 << 20)
                if not data:
                    raise self._ended()
                self._buffer += data
            elif self._process.poll() is not None:
                raise self._ended()  # dead, though one of its children may still hold the pipe
            elif memory_bytes is not None and self.resident_bytes() > memory_bytes:
                self.kill()
                raise ChildGoneError(
                    "out_of_memory", f"it grew beyond the limit of {memory_bytes / 2**30:.3g} GiB and was killed"
                )
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            self.kill()
            raise ChildGoneError("crashed", f"it wrote into the protocol's pipe: {line[:80]!r}") from None
        if not isinstance(answer, dict):
            self.kill()
            raise ChildGoneError("crashed", f"it wrote into the protocol's pipe: {line[:80]!r}")
        return answer

    def kill(self) -> None:
        """Kill the process and its whole group, at once; SIGTERM could be ignored."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill, and let go of pipes and log."""
        self.kill()
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._log.close()

    def _ended(self) -> ChildGoneError:
        """Why the process is no more, in words."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return ChildGoneError("crashed", "it closed the protocol's pipe")
        self.kill()  # what it started may outlive it
        tail = self._last_words()
        if code >= 0:
            return ChildGoneError("crashed", f"it ended with exit code {code}{tail}")
        name = signal.Signals(-code).name
        if any(words in tail for words in _OUT_OF_MEMORY):
            return ChildGoneError("out_of_memory", f"it was ended by {name}{tail}")
        hint = " (often the kernel's answer to a lack of memory)" if -code == signal.SIGKILL else ""
        return ChildGoneError("crashed", f"it was ended by {name}{hint}{tail}")

    def _last_words(self) -> str:
        """The end of what the child printed: a fault handler's first frame, or the last line."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        frames = [line for line in lines if line.startswith('File "')]
        words = [line for line in lines if not line.startswith(_FAULT_HANDLER)]
        seen = f"; last seen in {_short_frame(frames[0])}" if frames else ""
        return seen + (f"; its last words: {words[-1][:200]}" if words else "")

    def resident_bytes(self) -> int:
        """Memory that the process holds now; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0  # no /proc here, or it has just ended: the next look tells
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _short_frame(line: str) -> str:
    """``File "/long/way/kernel.py", line 12 in f`` to ``kernel.py, line 12 in f``."""
    path, _, rest = line.removeprefix('File "').partition('"')
    return Path(path).name + rest


def start_worker(
    threads: int, environment: Mapping[str, str], interpreter: str | None = None, folder: str | None = None
) -> Child:
    """A worker process; ``interpreter`` is the implementation's own Python where it has one.

    ``-P`` keeps the current folder off the import path: a ``statistics.py`` there would shadow the library's.
    """
    python = interpreter or sys.executable
    return Child([python, "-P", "-m", "attnbench.worker", "{read}", "{write}", str(threads)], environment, folder)


def start_oracle(environment: Mapping[str, str]) -> Child:
    """The oracle's process."""
    return Child([sys.executable, "-P", "-m", "attnbench.oracle", "{read}", "{write}"], environment)
