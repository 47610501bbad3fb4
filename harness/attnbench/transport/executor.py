"""The interface to anything that runs stages: a child process, this process, or a remote one."""

from __future__ import annotations

import collections
import select
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from attnbench.transport.message import AnswerMessage, Failure, ProtocolError, Reader, RequestMessage, encode, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.transport.message import Message

A = TypeVar("A", bound=AnswerMessage)
_POLL_S = 0.1
_PIECE = 2**20


class ExecutorError(Exception):
    """A request has no answer, because the executor refused it, failed or is gone; with the reason."""

    def __init__(self, status: str, reason: str, *, is_gone: bool = False, where: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.where = where
        """End of a sentence on what it was doing when it was killed, if known."""
        self.is_gone = is_gone
        """Whether it died or was killed, so that it cannot be asked again."""


class Executor(ABC):
    """Answers requests, one at a time and in order."""

    def ask(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        """Send a request and wait for the answer.

        Args:
            request: the request.
            deadline_s: time limit; the executor is killed if it takes longer.
            memory_bytes: resident size above which it is killed.

        Raises:
            ExecutorError: if it refuses, fails, crashes, hangs, grows too large, or sends a wrong answer.
        """
        self.send(request)
        return self.receive(request, deadline_s, memory_bytes)

    @abstractmethod
    def send(self, request: RequestMessage[Any]) -> None:
        """Send a request without waiting, so that several executors can work at once."""

    @abstractmethod
    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        """Wait for the answer to the oldest unanswered request; arguments and errors are those of :meth:`ask`."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """Return its current memory in bytes; 0 if unknown."""

    @abstractmethod
    def close(self) -> None:
        """End it, even while it is busy, and release its resources."""


def succeeded(request: RequestMessage[A], answer: Message) -> A:
    """Return the answer to a request.

    Raises:
        ExecutorError: if it is a failure.
    """
    if isinstance(answer, Failure):
        raise ExecutorError(answer.status, answer.reason)
    assert isinstance(answer, request.answer_type())
    return answer


class InProcess(Executor):
    """Answers in this process as soon as a request is sent; a call that hangs cannot be stopped."""

    def __init__(self, answer: Callable[[Any], AnswerMessage | Failure]) -> None:
        self._answer = answer
        self._answers: collections.deque[Message] = collections.deque()

    def send(self, request: RequestMessage[Any]) -> None:
        self._answers.append(self._answer(request))

    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        del deadline_s, memory_bytes
        answer = self._answers.popleft()
        return succeeded(request, answer)

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: there is no process to end."""


class StreamExecutor(Executor):
    """An executor at the other end of a byte stream.

    The parent sleeps until an answer, the end of the stream, or a limit of time or memory; it never spins while code is
    measured.
    """

    def __init__(self) -> None:
        self._reader = Reader()

    @abstractmethod
    def fileno(self) -> int:
        """Return the file descriptor to wait for."""

    @abstractmethod
    def read(self, size: int) -> bytes:
        """Return bytes that have arrived; none at the end of the stream."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send all of the data; raise ``OSError`` if the other end is closed."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the other end is known to be dead, although the stream may still be open."""

    @abstractmethod
    def ending(self) -> ExecutorError:
        """Return how the other end ended."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the other end at once."""

    def send(self, request: RequestMessage[Any]) -> None:
        try:
            self.write(encode(request))
        except OSError:
            raise self.ending() from None

    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        deadline = time.monotonic() + deadline_s

        def more() -> bytes:
            while (left := deadline - time.monotonic()) > 0:
                ended = self.has_ended()  # asked first: what it wrote before its end is there to be read
                ready, _, _ = select.select([self], [], [], 0 if ended else min(_POLL_S, left))
                if ready and (data := self.read(_PIECE)):
                    return data
                if ready or ended:
                    raise self.ending()
                if memory_bytes is not None and self.resident_bytes() > memory_bytes:
                    limit = f"the limit of {memory_bytes / 2**30:.3g} GiB"
                    raise self._killed("out_of_memory", f"it grew beyond {limit} and was killed")
            raise self._killed("timeout", f"it took more than {deadline_s:.3g} s and was killed")

        try:
            answer = opened(self._reader.message(more), request.answer_type(), Failure)
        except ProtocolError as error:
            raise self._killed("crashed", str(error)) from error
        return succeeded(request, answer)

    def _killed(self, status: str, reason: str) -> ExecutorError:
        self.kill()
        return ExecutorError(status, reason, is_gone=True)
