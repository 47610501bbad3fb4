"""The one interface to what runs stages: a child process, this process itself, or a remote one."""

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
    """A request has no answer: the executor says why not, or it is gone."""

    def __init__(self, status: str, reason: str, *, is_gone: bool = False, where: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.where = where
        """The end of a sentence that says what it was doing when it was killed, if that is known."""
        self.is_gone = is_gone
        """Whether it died or was killed, so that nothing more can be asked of it."""


class Executor(ABC):
    """Answers requests, one at a time and in their order."""

    def ask(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        """Send a request and wait for the answer.

        Args:
            request: what is asked.
            deadline_s: how long it may take; beyond, the executor is killed.
            memory_bytes: resident size at which it is killed.

        Raises:
            ExecutorError: when it refuses, fails, crashes, hangs, grows too large, or answers something else.
        """
        self.send(request)
        return self.receive(request, deadline_s, memory_bytes)

    @abstractmethod
    def send(self, request: RequestMessage[Any]) -> None:
        """Send a request without waiting, so that several executors can work at once."""

    @abstractmethod
    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        """Wait for the answer to the oldest request that has none yet; as :meth:`ask`."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """Memory that it holds now; 0 where that is unknown."""

    @abstractmethod
    def close(self) -> None:
        """End it, whatever it is doing, and let go of everything."""


def succeeded(request: RequestMessage[A], answer: Message) -> A:
    """The answer to a request.

    Raises:
        ExecutorError: when it is a failure.
    """
    if isinstance(answer, Failure):
        raise ExecutorError(answer.status, answer.reason)
    assert isinstance(answer, request.answer_type())
    return answer


class InProcess(Executor):
    """Answers in this process, as soon as it is asked; there is nobody to stop a call that hangs."""

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
        """There is nothing to end."""


class StreamExecutor(Executor):
    """At the other end of a stream of bytes.

    The parent sleeps until an answer, the end of the stream, or the end of time or memory; it never spins beside
    measured code.
    """

    def __init__(self) -> None:
        self._reader = Reader()

    @abstractmethod
    def fileno(self) -> int:
        """The file descriptor to wait for."""

    @abstractmethod
    def read(self, size: int) -> bytes:
        """The bytes that have arrived; none at the end of the stream."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send all of it; raises ``OSError`` where nobody listens."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the other end is known to be dead, though the stream may still be open."""

    @abstractmethod
    def ending(self) -> ExecutorError:
        """How the other end ended, in words."""

    @abstractmethod
    def kill(self) -> None:
        """End the other end at once."""

    def send(self, request: RequestMessage[Any]) -> None:
        try:
            self.write(encode(request))
        except OSError:
            raise self.ending() from None

    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        deadline = time.monotonic() + deadline_s

        def more() -> bytes:
            while (left := deadline - time.monotonic()) > 0:
                ready, _, _ = select.select([self], [], [], min(_POLL_S, left))
                if ready and (data := self.read(_PIECE)):
                    return data
                if ready or self.has_ended():
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
