"""Rank 0: answers the driver like any worker, and lets the other ranks do their parts."""

from __future__ import annotations

import functools
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NoReturn

from attnbench.worker.call import Call
from attnbench.worker.ranks.follower import Failed, RankFailedError, packed, unpacked
from attnbench.worker.ranks.part import Part, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.transport.message import AnswerMessage, Failure
    from attnbench.worker.dump import Outputs
    from attnbench.worker.worker import Worker

_HEARD_WITHIN_S = 2.0
_KILLED_WITHIN_S = 10.0
_SERVED_BY_ALL = ("Load", "Close")


class Others:
    """Rank 0's links to the other ranks."""

    def __init__(self, links: Sequence[Connection]) -> None:
        self._links = links

    @property
    def ranks(self) -> int:
        """The number of ranks, including rank 0."""
        return 1 + len(self._links)

    def together(self, name: str, given: Callable[[int], tuple[Any, ...]], mine: Callable[[], object]) -> list[Any]:
        """Let all ranks do something at the same time, and return the others' answers.

        Args:
            name: a method of :class:`attnbench.worker.ranks.follower.Follower`, or of its part.
            given: returns the method's arguments for a rank.
            mine: called in rank 0 at the same time.

        Raises:
            RankFailedError: another rank was the first to raise.
        """
        for rank, link in enumerate(self._links, 1):
            try:
                link.send_bytes(packed((name, given(rank))))
            except OSError:
                self._await_the_end(link)
        try:
            mine()
        except Exception as error:
            raise self._cause(error, time.monotonic()) from error
        return [self._heard(link) for link in self._links]

    def _heard(self, link: Connection) -> Any:
        try:
            answer = unpacked(link.recv_bytes())
        except (EOFError, OSError):
            self._await_the_end(link)
        if isinstance(answer, Failed):
            raise answer.kind(answer.reason)
        return answer

    def _cause(self, error: Exception, at_s: float) -> Exception:
        """Return the first failure of the group; this rank's own error may only be the consequence of another."""
        failed: list[Failed] = []
        pending, ends_s = list(self._links), at_s + _HEARD_WITHIN_S
        while pending and (ready := wait(pending, max(0.0, ends_s - time.monotonic()))):
            for link in ready:
                pending.remove(link)  # type: ignore[arg-type]  # it is one of them
                try:
                    answer = unpacked(link.recv_bytes())  # type: ignore[union-attr]
                except (EOFError, OSError):
                    self._await_the_end(link)
                if isinstance(answer, Failed):
                    failed.append(answer)
        first = min(failed, key=lambda one: one.at_s, default=None)
        return error if first is None or first.at_s > at_s else first.kind(first.reason)

    def _await_the_end(self, link: Any) -> NoReturn:
        """Wait until the process that started the ranks ends this one as well, because a rank has ended."""
        time.sleep(_KILLED_WITHIN_S)
        raise RankFailedError(f"rank {1 + self._links.index(link)} ended its process, with exit code 0")


class RankCall(Call):
    """A call in which every rank has a part; it begins when all are ready, and ends when the last one is done."""

    needs_set_up = True

    def __init__(
        self, implementation: Implementation, case: Case, device: str, operands: Operands, memory_bytes: int | None,
        others: Others,
    ) -> None:  # fmt: skip
        self._others, self.tokens = others, Tokens(implementation, case, others.ranks)
        self.tokens.require_each_once()
        made: list[Part] = []
        prepared = others.together(
            "begin",
            lambda rank: (case, device, memory_bytes, self.tokens.shares(operands, rank)),
            lambda: made.append(Part(implementation, case, self.tokens.shares(operands, 0))),
        )
        self.part = made[0]
        call = self.part.call
        prepare_ns = max([call.prepare_ns, *prepared])
        super().__init__(implementation, case, operands, call.plan, call.function, prepare_ns)
        self.ranks = others.ranks

    def set_up(self) -> None:
        """Give each rank its share of the operands, and wait until all are ready."""
        self._others.together(
            "set_up",
            lambda rank: (self.tokens.shares(self.operands, rank),),
            lambda: self.part.set_up(self.tokens.shares(self.operands, 0)),
        )

    def run(self) -> Any:
        """Make one call, and wait until every rank is done."""
        self._others.together("run", lambda rank: (), self.part.run)
        return self.part.result

    def run_weighed(self) -> Any:
        peaks = self._others.together("weigh", lambda rank: (), self.part.run)
        self.others_peak_bytes = max([0, *peaks])
        return self.part.result

    def outputs(self, result: Any) -> Outputs:
        """Return the last call's outputs, joined from all ranks' shares."""
        mine: list[Outputs] = []
        others = self._others.together("outputs", lambda rank: (), lambda: mine.append(self.part.outputs()))
        return self.tokens.joined([*mine, *others])

    def require_conduct(self) -> None:
        self._others.together("require_conduct", lambda rank: (), self.part.require_conduct)

    def watch(self, how: str) -> tuple[list[int], int]:
        """Like :meth:`Part.watch`: nanoseconds of each rank, and the bytes that all of them sent, if recorded."""
        mine: list[int] = []
        others = self._others.together("watch", lambda rank: (how,), lambda: mine.append(self.part.watch(how)))
        sent = self.part.recording.sent_bytes + sum(bytes_ for _, bytes_ in others)
        return [*mine, *(ns for ns, _ in others)], sent


class Leader:
    """Rank 0's worker, which makes calls of all ranks, and forwards requests to load and close to the others."""

    def __init__(self, worker: Worker, links: Sequence[Connection]) -> None:
        self._worker, self._others = worker, Others(links)
        worker.bind = functools.partial(RankCall, others=self._others)

    def answer(self, request: Any) -> AnswerMessage | Failure:
        """See :meth:`Worker.answer`."""
        if type(request).__name__ not in _SERVED_BY_ALL:
            return self._worker.answer(request)
        return self._worker.answer(_ByAll(request, self._others))  # type: ignore[arg-type]  # it fails as the request does


class _ByAll:
    """A request that all ranks serve."""

    def __init__(self, request: Any, others: Others) -> None:
        self._request, self._others = request, others
        self.fails_as = request.fails_as

    def serve(self, worker: Worker) -> AnswerMessage:
        answers: list[AnswerMessage] = []
        self._others.together(
            "serve", lambda rank: (self._request,), lambda: answers.append(self._request.serve(worker))
        )
        return answers[0]
