"""Standard streams as they are: closed, full, unread, or of an encoding that lacks some characters.

No run file takes the place of a closed one. Standard error drops what it cannot take, so that no message changes an
exit code. Standard output says so in a sentence. Both write what their encoding lacks in other words.
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
"""ASCII for characters of attnbench's own that an encoding may lack; others become escapes like ``\\xe9``."""


class OutputError(UsageError):
    """Standard output does not take what is to be written; a sentence."""


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
    """Standard error; what it does not take (closed, full, its reader gone) is dropped."""

    number = _STDERR

    def write(self, data: object) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes  # type: ignore[arg-type]  # a buffer


class _Stdout(_Stream):
    """Standard output; what it does not take is an :class:`OutputError`, but for a reader who has seen enough."""

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
            drop_stdout()  # with whatever else is buffered
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        if self._is_closed:
            self._is_closed = False
            raise OutputError("standard output cannot be written: it is closed")
        return size


def secure_streams() -> None:
    """Fill closed standard streams with the null device; let writing to stderr never fail, to stdout in a sentence."""
    closed = []
    for fd in range(_STDERR + 1):
        try:
            os.fstat(fd)
        except OSError:
            closed.append(fd)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
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
    """Send what is still buffered for stdout nowhere, where nobody takes it: the flush at the end would fail, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Other words for the characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    words = "".join(_INSTEAD.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return words, error.end
