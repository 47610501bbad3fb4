"""Standard streams that can be closed, full, unread, or of an encoding that lacks some characters.

A run file never takes the number of a closed stream. Standard error drops what cannot be written, so that no message
changes an exit code; standard output raises a sentence. Both replace characters that their encoding lacks.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import ClassVar

from attnbench.errors import UsageError

_STDOUT = 1
_STDERR = 2
_READABLE = "attnbench.readable"
_INSTEAD = {
    "×": "x", "µ": "u", "²": "2", "⁴": "4", "·": "|", "…": "...", "±": "+-", "≈": "~", "≤": "<=", "≥": ">=", "−": "-",
    "–": "-", "—": "-", "°": " deg", "→": "->", "│": "|", "┤": "|", "└": "+", "─": "-", "├": "|", "┼": "+", "━": "-",
}  # fmt: skip
"""ASCII for attnbench's own characters that an encoding can lack; others become escapes like ``\\xe9``."""


class OutputError(UsageError):
    """Standard output cannot be written; the message is a sentence."""


class _Stream(io.RawIOBase):
    """One of this process's standard streams."""

    number: ClassVar[int]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: object) -> int:
        left = memoryview(data)  # type: ignore[arg-type]  # a buffer
        size = len(left)
        while left:
            left = left[os.write(self.number, left) :]
        return size


class _Stderr(_Stream):
    """Standard error; what cannot be written (closed, full, its reader gone) is dropped."""

    number = _STDERR

    def write(self, data: object) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes  # type: ignore[arg-type]  # a buffer


class _Stdout(_Stream):
    """Standard output that raises :class:`OutputError`, except when its reader has closed it (``BrokenPipeError``)."""

    number = _STDOUT

    def __init__(self, *, is_closed: bool) -> None:
        super().__init__()
        self._is_closed = is_closed

    def write(self, data: object) -> int:
        try:
            size = super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            drop_stdout()  # along with everything else in the buffer
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        if self._is_closed:
            self._is_closed = False
            raise OutputError("standard output cannot be written: it is closed")
        return size


def secure_streams() -> None:
    """Open the null device for closed standard streams, and replace stdout and stderr.

    Writing to stderr never fails; stdout raises :class:`OutputError`.
    """
    closed = []
    for fd in range(_STDERR + 1):
        try:
            os.fstat(fd)
        except OSError:
            closed.append(fd)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    codecs.register_error(_READABLE, _readable)
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Stderr()), encoding=encoding, errors=_READABLE, line_buffering=True
    )
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    raw = _Stdout(is_closed=_STDOUT in closed)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=_READABLE, line_buffering=raw.isatty()
    )


def drop_stdout() -> None:
    """Redirect stdout to the null device: its buffer would fail again when it is flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the characters that an encoding lacks; an error handler for ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    words = "".join(_INSTEAD.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return words, error.end
