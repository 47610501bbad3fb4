"""A local process that runs stages: it answers over a pipe, is watched, and is killed with all its descendants."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.transport.executor import ExecutorError, StreamExecutor
from attnbench.untrusted.processes import end_marked, marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG_TAIL_BYTES = 4000
_WORDS_S = 3.0
_FAULT_HANDLER = (
    'File "',
    "Fatal Python error",
    "Thread 0x",
    "Current thread",
    "Extension modules",
    "<no Python frame>",
)
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "Cannot allocate memory", "can't allocate memory", "MemoryError")


class Child(StreamExecutor):
    """An executor in a child process."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str | None = None) -> None:
        """Start ``command`` in ``folder``, with the pipes' descriptors substituted for ``{read}`` and ``{write}``."""
        super().__init__()
        child_reads, self._write_fd = os.pipe()
        self._read_fd, child_writes = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        variables, self._mark = marked(environment)
        try:
            self._process = subprocess.Popen(
                [part.format(read=child_reads, write=child_writes) for part in command],
                env=variables,
                cwd=folder,
                pass_fds=[child_reads, child_writes],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError:
            os.close(self._read_fd)
            os.close(self._write_fd)
            self._log.close()
            raise
        finally:
            os.close(child_reads)
            os.close(child_writes)

    def fileno(self) -> int:
        return self._read_fd

    def read(self, size: int) -> bytes:
        return os.read(self._read_fd, size)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._write_fd, left) :]

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        end_marked(self._mark)

    def close(self) -> None:
        self.kill()
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._log.close()

    def ending(self) -> ExecutorError:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return _gone("crashed", "it closed the protocol's pipe")
        self.kill()  # its descendants may outlive it
        tail = self._last_words()
        if code >= 0:
            return _gone("crashed", f"it ended with exit code {code}{tail}")
        name = signal.Signals(-code).name
        if any(words in tail for words in _OUT_OF_MEMORY):
            return _gone("out_of_memory", f"it was ended by {name}{tail}")
        hint = " (often the kernel's answer to a lack of memory)" if -code == signal.SIGKILL else ""
        return _gone("crashed", f"it was ended by {name}{hint}{tail}")

    def _last_words(self) -> str:
        """Return the end of what the child printed: a fault handler's first frame, the last line, or both."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        frames = [line for line in lines if line.startswith('File "')]
        words = [line for line in lines if not line.startswith(_FAULT_HANDLER)]
        seen = f"; last seen in {_short_frame(frames[0])}" if frames else ""
        return seen + (f"; its last words: {words[-1][:200]}" if words else "")

    def resident_bytes(self) -> int:
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0  # no /proc here, or it has just ended, which the next poll notices
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class RankGroup(Child):
    """Processes that work on one call together, and the process that started them."""

    def resident_bytes(self) -> int:
        import psutil

        sizes = 0
        with contextlib.suppress(psutil.Error):  # some have just ended, which the next poll notices
            for process in psutil.Process(self._process.pid).children(recursive=True):
                sizes += process.memory_info().rss
        return sizes

    def _killed(self, status: str, reason: str) -> ExecutorError:
        """Kill it after asking where its ranks are, which it prints on SIGTERM."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WORDS_S)
        where = self._last_words()
        error = super()._killed(status, reason)
        return ExecutorError(error.status, error.reason, is_gone=True, where=where)


def _gone(status: str, reason: str) -> ExecutorError:
    return ExecutorError(status, reason, is_gone=True)


def _short_frame(line: str) -> str:
    """Shorten ``File "/long/way/kernel.py", line 12 in f`` to ``kernel.py, line 12 in f``."""
    path, _, rest = line.removeprefix('File "').partition('"')
    return Path(path).name + rest
