"""Standard streams that may be closed: no run file takes their place, no message that fails changes an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

_STDERR = 2


class _Stderr(io.RawIOBase):
    """Standard error; what it does not take (closed, full, its reader gone) is dropped."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _STDERR

    def isatty(self) -> bool:
        return os.isatty(_STDERR)

    def write(self, data: object) -> int:
        left = memoryview(data)  # type: ignore[arg-type]  # a buffer
        size = len(left)
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(_STDERR, left) :]
        return size


def secure_streams() -> None:
    """Fill closed standard streams with the null device, and let writing to stderr never fail."""
    for fd in range(_STDERR + 1):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Stderr()), encoding=encoding, errors="backslashreplace", line_buffering=True
    )


def drop_stdout() -> None:
    """Send what is still buffered for stdout nowhere, where nobody takes it: the flush at the end would fail, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
