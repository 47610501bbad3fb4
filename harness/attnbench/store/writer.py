"""Appends to a run file, one line at a time, each whole or not at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class RunWriter:
    """A run file that is being written.

    A line that cannot be stored (a full disk, say) is taken back off the file, kept, and tried again with the next
    one, so that no earlier line is ever damaged. ``pending`` holds what is still not stored; ``problem`` says why.
    An exception out of a signal handler, such as ``KeyboardInterrupt``, may end :meth:`append` anywhere: the line is
    then stored once, by the next :meth:`append`.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.problem: str | None = None
        self._fd = fd
        # Where an attempt to store the first pending line began, or None; and all pending lines. Both change in one
        # assignment, which no interrupt divides.
        self._state: tuple[int | None, tuple[bytes, ...]] = (None, ())

    @property
    def pending(self) -> tuple[bytes, ...]:
        """Lines that are not stored yet."""
        return self._state[1]

    @classmethod
    def create(cls, path: Path, *, force: bool = False) -> RunWriter:
        """Begin a new file.

        Raises:
            FileExistsError: when it exists already, without ``force``.
            OSError: when it cannot be created.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if force else os.O_EXCL)
        return cls(path, os.open(path, flags, 0o644))

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """Go on with a file; a torn last line, from a run that was killed while writing, is cut off."""
        fd = os.open(path, os.O_RDWR | os.O_APPEND)
        data = path.read_bytes()
        os.ftruncate(fd, data.rfind(b"\n") + 1)
        return cls(path, fd)

    def append(self, line: dict[str, Any]) -> None:
        """Store a line, together with those that could not be stored before. Never raises for a full disk."""
        data = json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        self._state = (self._state[0], (*self.pending, data))
        while self.pending:
            began, (first, *others) = self._state
            if began is None:
                began = os.lseek(self._fd, 0, os.SEEK_END)
                self._state = (began, self.pending)
            try:
                os.ftruncate(self._fd, began)  # an interrupted attempt may have left a part, or all of it
                self._write(first)
            except OSError as error:
                self.problem = f"{self.path} cannot be written: {error.strerror}"
                os.ftruncate(self._fd, began)
                return
            self._state = (None, tuple(others))
        self.problem = None

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)
