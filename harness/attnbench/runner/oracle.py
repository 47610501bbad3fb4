"""The runner's side of the oracle: a process that is started in advance, and restarted if it dies."""

from __future__ import annotations

import collections
import contextlib
import sys
from typing import TYPE_CHECKING, TypeVar

from attnbench.cases.inputs.sample_inputs import Inputs, unknown_inputs
from attnbench.stages.agreement import Expect, Start
from attnbench.transport.child import Child
from attnbench.transport.executor import ExecutorError
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.cases.case import Case
    from attnbench.transport.message import RequestMessage

_START_DEADLINE_S = 300.0
_ANSWER_DEADLINE_S = 900.0
A = TypeVar("A", bound=AnswerMessage)


class OracleGoneError(ExecutorError):
    """The oracle died over a question; the next question starts a new one."""


class Oracle:
    """Asks the oracle's process."""

    def __init__(self, threads: int, environment: Mapping[str, str]) -> None:
        self._start = Start(threads=threads)
        self._environment = environment
        self._child: Child | None = None
        self._is_ready = False
        self._unknown: dict[str, Inputs] = {}
        self._expecting: collections.deque[Expect] = collections.deque()

    def start(self) -> Child:
        """Start the process without waiting until it has loaded its libraries.

        Raises:
            OracleGoneError: it cannot be started.
        """
        command = [sys.executable, "-P", "-m", "attnbench.oracle", "{read}", "{write}"]
        try:
            self._child = Child(command, self._environment)
        except OSError as error:
            reason = f"the oracle cannot be started: {sys.executable}: {error.strerror}"
            raise OracleGoneError("error", reason, is_gone=True) from error
        self._child.send(self._start)
        self._is_ready = False
        self._expecting.clear()
        return self._child

    def wait(self) -> Child:
        """Wait until the process is ready.

        Raises:
            OracleGoneError: it cannot be started.
        """
        child = self._child or self.start()
        if not self._is_ready:
            self._received(child, self._start, _START_DEADLINE_S)
            self._is_ready = True
        return child

    def expect(self, case: Case, *, stores_scores: bool) -> None:
        """Let the oracle compute the answers while the worker computes; a failure only counts in :meth:`ask`."""
        child, expected = self.wait(), Expect(case=case, stores_scores=stores_scores)
        with contextlib.suppress(ExecutorError):
            child.send(expected)
            self._expecting.append(expected)

    def unknown_inputs(self, case: Case) -> Inputs:
        """Return the inputs of a case's timed samples; all its cells share them, so their answer is computed once."""
        if case.case_id not in self._unknown:
            self._unknown[case.case_id] = unknown_inputs(case)
        return self._unknown[case.case_id]

    def ask(self, question: RequestMessage[A]) -> A:
        """Ask a question, and return the answer.

        Raises:
            OracleGoneError: the oracle dies over it.
            ExecutorError: the oracle refuses it.
        """
        child = self.wait()
        while self._expecting:
            try:
                self._received(child, self._expecting.popleft(), _ANSWER_DEADLINE_S)
            except OracleGoneError:
                raise
            except ExecutorError:
                continue  # the question itself will fail
        try:
            child.send(question)
        except ExecutorError as error:
            raise self._gone(error) from error
        return self._received(child, question, _ANSWER_DEADLINE_S)

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
        self._child = None

    def _received(self, child: Child, question: RequestMessage[A], deadline_s: float) -> A:
        try:
            return child.receive(question, deadline_s)
        except ExecutorError as error:
            raise (self._gone(error) if error.is_gone else error) from error

    def _gone(self, error: ExecutorError) -> OracleGoneError:
        self.close()
        return OracleGoneError("error", f"the oracle could not judge it: {error.reason}", is_gone=True)
