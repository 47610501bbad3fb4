"""Access to files that others may have created: regular files only, and no more bytes than allowed."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
"""Keeps open() from blocking on a pipe without a writer, which is refused afterwards."""


def read_regular(path: Path, most_bytes: int, *, tail: bool = False) -> bytes:
    """Read a regular file of at most ``most_bytes`` bytes, or (``tail``) the last ones of a longer file.

    Raises:
        OSError: if it cannot be read, is longer without ``tail``, or is a pipe, device or folder.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes and not tail:
            raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes")
        file.seek(max(0, size - most_bytes))
        return file.read(most_bytes)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file of any length for reading.

    Raises:
        OSError: if it cannot be read, or is a pipe, device or folder.
    """
    descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


def append_line(path: Path, line: str) -> None:
    """Append a line to a regular file, which is created if missing.

    Raises:
        OSError: if it cannot be written, or is a pipe, device or folder.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _WITHOUT_WAITING, 0o666)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        file.write(f"{line}\n")
