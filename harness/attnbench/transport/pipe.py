"""How the parent speaks with a worker or with the oracle: JSON lines over two pipes of their own.

Standard output is not the protocol, so an implementation may print what it likes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

Message = dict[str, Any]

_PR_SET_PDEATHSIG = 1


class Channel:
    """The child's end: blocking, one message at a time."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        for fd in (read_fd, write_fd):
            os.set_inheritable(fd, False)  # a child of the implementation must not hold the pipes open
        self._read = os.fdopen(read_fd, "rb")
        self._write_fd = write_fd

    def receive(self) -> Message | None:
        """The next request, or ``None`` when the parent is gone."""
        line = self._read.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def send(self, message: Message) -> None:
        """Send one answer; a pipe takes a long one in pieces."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._write_fd, data) :]


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, however that dies. Only on Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == 1:  # it died before this line
            os._exit(1)
