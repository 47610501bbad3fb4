"""The child's end of a pipe. It is separate from standard output, so an implementation may print anything."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from attnbench.transport.message import (
    AnswerMessage,
    Envelope,
    Failure,
    ProtocolError,
    Reader,
    RequestMessage,
    encode,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PR_SET_PDEATHSIG = 1
_PIECE = 2**20


class Channel:
    """Blocking channel for one message at a time."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[bytes], int]) -> None:
        """``read`` returns at most the given number of bytes, none at the end; ``write`` returns how many it took."""
        self._read, self._write = read, write
        self._reader = Reader()

    def receive(self) -> Envelope:
        """Return the next request; raise ``EOFError`` when the parent is gone."""
        return self._reader.message(self._more)

    def _more(self) -> bytes:
        data = self._read(_PIECE)
        if not data:
            raise EOFError
        return data

    def send(self, answer: AnswerMessage | Failure) -> None:
        """Send one answer; a pipe may accept a long one only in pieces."""
        data = memoryview(encode(answer))
        while data:
            data = data[self._write(data) :]  # type: ignore[arg-type]  # a buffer will do

    def serve(
        self, kinds: Iterable[type[RequestMessage[Any]]], answer: Callable[[Any], AnswerMessage | Failure]
    ) -> None:
        """Answer requests of these kinds until the parent closes the pipe."""
        kinds = tuple(kinds)
        with contextlib.suppress(EOFError):
            while True:
                envelope = self.receive()
                try:
                    request = opened(envelope, *kinds)
                except ProtocolError as error:
                    self.send(Failure(status="error", reason=str(error)))
                else:
                    self.send(answer(request))


def parents_channel(read_fd: int, write_fd: int) -> Channel:
    """Return the channel to the parent that started this process, without passing it on to children."""
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    return Channel(functools.partial(os.read, read_fd), functools.partial(os.write, write_fd))


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies for any reason. Does nothing except on Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == 1:  # the parent died before this line
            os._exit(1)
