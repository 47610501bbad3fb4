"""The oracle as the runner sees it: a child that is started ahead, and started again should it ever die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.transport.child import Child, ChildGoneError, start_oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_START_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 900.0


class OracleGoneError(Exception):
    """The oracle died over a question; the next question finds a fresh one."""


class Oracle:
    """Asks the oracle's process."""

    def __init__(self, threads: int, environment: Mapping[str, str]) -> None:
        self._threads = threads
        self._environment = environment
        self._child: Child | None = None
        self._is_ready = False

    def start(self) -> None:
        """Start the process without waiting until it has loaded its libraries."""
        self._child = start_oracle(self._environment)
        self._child.send({"do": "start", "threads": self._threads})
        self._is_ready = False

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            OracleGoneError: when it cannot start.
        """
        if self._child is None:
            self.start()
        assert self._child is not None
        if not self._is_ready:
            self._guarded(lambda child: child.receive(_START_TIMEOUT_S))
            self._is_ready = True

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a question.

        Raises:
            OracleGoneError: when the oracle dies over it.
        """
        self.wait()
        return self._guarded(lambda child: child.ask(request, _ANSWER_TIMEOUT_S))

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
        self._child = None

    def _guarded(self, ask: Callable[[Child], dict[str, Any]]) -> dict[str, Any]:
        assert self._child is not None
        try:
            return ask(self._child)
        except ChildGoneError as gone:
            self.close()
            raise OracleGoneError(f"the oracle could not judge it: {gone.reason}") from gone
