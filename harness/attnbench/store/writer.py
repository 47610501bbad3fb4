"""Appends lines to a run file, each as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class RunFileBusyError(UsageError):
    """Another process is writing the run file."""


class RunWriter:
    """A run file being written, by this process alone: it holds a lock, which the system releases with the process.

    A line that cannot be stored (on a full disk, say) is truncated from the file, kept, and retried with the next one,
    so that earlier lines are never damaged. ``pending`` holds the lines not stored yet; ``problem`` says why. An
    exception from a signal handler, such as ``KeyboardInterrupt``, may end :meth:`append` anywhere; the next
    :meth:`append` then stores the line, once.
    """

    def __init__(self, path: Path, extra_flags: int = 0) -> None:
        """Open the file, with additional flags for ``os.open``, and lock it.

        Raises:
            RunFileBusyError: if another process is writing it.
            OSError: if it cannot be opened for writing.
        """
        self.path = path
        self.problem: str | None = None
        self.unlocked: str | None
        """Why the file is not protected from other writers, as a sentence; ``None`` if it is locked."""
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | extra_flags, 0o644)
        # The offset at which an attempt to store the first pending line began, or None; and all pending lines. Both
        # change in one assignment, which an interrupt cannot split.
        self._state: tuple[int | None, tuple[bytes, ...]] = (None, ())
        try:
            self.unlocked = lock(self._fd, path)
        except OSError as error:
            self.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise RunFileBusyError(f"{path} is being written by another attnbench: wait until that has ended") from None
        if os.fstat(self._fd).st_nlink == 0:  # it was unlinked between opening and locking
            self.close()
            raise RunFileBusyError(f"{path} was removed by another process just now: try again")

    @property
    def pending(self) -> tuple[bytes, ...]:
        """Lines that are not stored yet."""
        return self._state[1]

    @classmethod
    def create(cls, path: Path, header: Mapping[str, object], *, force: bool = False) -> RunWriter:
        """Create a file with its first line; if that fails, no file is left.

        Raises:
            FileExistsError: if the path has something other than an empty file, without ``force``.
            RunFileBusyError: if another process is writing it.
            OSError: if it cannot be written.
        """
        data = _encoded(header)
        cls.require_room(path, force=force)
        writer = cls(path, os.O_CREAT)
        try:
            writer.require_empty(force=force)
        except FileExistsError:
            writer.close()
            raise
        try:
            os.ftruncate(writer._fd, 0)
            writer._write(data)
        except BaseException:
            path.unlink(missing_ok=True)
            writer.close()
            raise
        return writer

    @classmethod
    def require_room(cls, path: Path, *, force: bool) -> None:
        """Raise if :meth:`create` would, so that nothing is measured in vain; create the parent folder."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
        if not path.exists():
            with tempfile.TemporaryFile(dir=path.parent):  # checks that the folder is writable
                return
        if not path.is_file():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        with contextlib.closing(cls(path)) as writer:
            writer.require_empty(force=force)

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """Continue a file. The first append removes a torn last line, left by a run that was killed while writing.

        Raises:
            RunFileBusyError: if another process is writing it.
            OSError: if it cannot be written.
        """
        writer = cls(path)
        writer._state = (path.read_bytes().rfind(b"\n") + 1, ())
        return writer

    def append(self, line: Mapping[str, object]) -> None:
        """Store a line, after those still pending. If writing fails, set ``problem`` instead of raising."""
        self._state = (self._state[0], (*self.pending, _encoded(line)))
        while self.pending:
            began, (first, *others) = self._state
            if began is None:
                began = os.lseek(self._fd, 0, os.SEEK_END)
                self._state = (began, self.pending)
            try:
                os.ftruncate(self._fd, began)  # an interrupted attempt may have written some or all of it
                self._write(first)
            except OSError as error:
                self.problem = f"{self.path} cannot be written: {error.strerror}"
                with contextlib.suppress(OSError):  # the next attempt begins with it, too
                    os.ftruncate(self._fd, began)
                return
            self._state = (None, tuple(others))
        self.problem = None

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file, which releases its lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def require_empty(self, *, force: bool) -> None:
        """Raise ``FileExistsError`` if the file is not empty, unless ``force``."""
        if not force and os.fstat(self._fd).st_size:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))


def lock(descriptor: int, path: Path) -> str | None:
    """Lock an open file or folder until it is closed; return why it is unlocked, as a sentence, where nothing locks.

    Raises:
        BlockingIOError: if another process holds the lock.
        OSError: if it cannot be locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        return f"{path} lies where there are no locks ({error.strerror}): write it from one process only"
    return None


def write_whole(path: Path, lines: Iterable[Mapping[str, object]], *, force: bool = False) -> None:
    """Write a whole run file atomically.

    Raises:
        FileExistsError: if the path has something other than an empty file, without ``force``.
        RunFileBusyError: if another process is writing it.
        OSError: if it cannot be written.
    """
    RunWriter.require_room(path, force=force)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        written = Path(file.name)
        try:
            file.writelines(_encoded(line) for line in lines)
            file.flush()
            os.fsync(file.fileno())
            written.chmod(0o644)
            written.replace(path)
        except BaseException:
            written.unlink()
            raise


def _encoded(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"
