"""A stage, and the cell that passes through the stages; :mod:`attnbench.runner.driver` drives them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Protocol, TypeVar

from attnbench.cases.inputs.sample_inputs import Inputs, unknown_inputs
from attnbench.metrics.metric import metrics_of
from attnbench.transport.executor import ExecutorError
from attnbench.transport.message import AnswerMessage, RequestMessage, Status
from attnbench.worker.timing import MAX_WARMUP_CALLS, MIN_WARMUP_NS, SamplingLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnbench.cases.case import Case
    from attnbench.metrics.metric import Metrics
    from attnbench.transport.executor import Executor
    from attnbench.worker.worker import Worker

A_co = TypeVar("A_co", bound=AnswerMessage, covariant=True)
A = TypeVar("A", bound=AnswerMessage)
Values = dict[str, Any]
"""Metrics by name, as in a record."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellLimits:
    """The limits of a cell, and the requested stages."""

    time_s: float
    memory_bytes: int | None
    measures: frozenset[str] = frozenset()
    """Stages that are requested in addition to agreement: ``time``, ``memory``, ..."""
    sampling: SamplingLimits = dataclasses.field(default_factory=SamplingLimits)
    cache: Literal["warm", "cold"] = "warm"
    visits: int | None = None
    """Exact number of visits between which samples are divided, on a CPU; ``None`` lets the sampling time decide. The
    driver may run other cells between visits."""
    warmup_ns: int = MIN_WARMUP_NS
    """May be less than the protocol's if the processor is awake anyway."""
    warmup_calls: int = MAX_WARMUP_CALLS

    @property
    def timed(self) -> bool:
        """Whether time is measured."""
        return "time" in self.measures


@dataclasses.dataclass
class Spent:
    """The time that a cell spent on each activity, in nanoseconds."""

    first_calls: float = 0
    warmup: float = 0
    samples: float = 0
    memory: float = 0
    repeats: float = 0
    shown: float = 0
    oracle: float = 0
    identities: float = 0


class CellEndedError(Exception):
    """The cell ended before its last stage, with a status other than ok."""

    def __init__(self, stage: str, status: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.status, self.reason = stage, status, reason


class Company:
    """The cells that take turns while they are sampled."""

    def __init__(self, *, is_here: bool = False) -> None:
        """``is_here``: whether they run on the oracle's machine, so that its heartbeat measures theirs."""
        self.is_here = is_here
        self.heartbeats: list[float] = []
        """One per round of visits, in nanoseconds."""
        self._sampled: set[CellRun] = set()

    @property
    def heartbeat_ns(self) -> float | None:
        """The median heartbeat."""
        return statistics.median(self.heartbeats) if self.heartbeats else None

    def join(self, cell: CellRun) -> None:
        """Register a cell that will be sampled."""
        self._sampled.add(cell)

    def leave(self, cell: CellRun) -> None:
        """Unregister a cell that has its samples, or has ended without."""
        self._sampled.discard(cell)

    @property
    def is_sampled(self) -> bool:
        """Whether any cell is still to be sampled."""
        return bool(self._sampled)


class Judge(Protocol):
    """An oracle, which knows the right answers and judges outputs."""

    def ask(self, request: RequestMessage[A]) -> A:
        """Answer a question, or raise :class:`ExecutorError`."""


class CellRun:
    """A cell on its way through the stages. Each stage adds its metrics to ``values``."""

    def __init__(
        self,
        worker: Executor,
        oracle: Judge,
        case: Case,
        device: str,
        limits: CellLimits,
        *,
        stores_scores: bool = False,
        unknown: Inputs | None = None,
        company: Company | None = None,
        ranks: int | None = None,
    ) -> None:
        """Start the cell's clock.

        ``stores_scores`` decides the oracle's budget. ``unknown`` are the inputs of timed samples, drawn if not given.
        ``ranks`` is the number of processes that the worker consists of, if there are several.
        """
        self.company = company or Company()
        self.company.join(self)
        self.unknown = unknown or unknown_inputs(case)
        self.case, self.device, self.limits, self.stores_scores = case, device, limits, stores_scores
        self.ranks = ranks
        self.values: Values = {}
        self.kept: dict[int, bytes] = {}
        """Dropout masks by the repetition of the inputs."""
        self.inputs = Inputs()
        """Inputs of the last judged result."""
        self.spent = Spent()
        self.stage = ""
        self.worker_died = False
        self._worker, self._oracle = worker, oracle
        self._deadline = time.monotonic() + limits.time_s
        self._most_bytes = worker.resident_bytes() + limits.memory_bytes if limits.memory_bytes else None

    @property
    def left_s(self) -> float:
        """Seconds left until the cell's time limit, at least 0.001."""
        return max(0.001, self._deadline - time.monotonic())

    def ask(self, request: RequestMessage[A], *, stage: str | None = None) -> A:
        """Ask the worker; anything but an answer ends the cell, in ``stage`` or else in the current one."""
        try:
            return self._worker.ask(request, self.left_s, self._most_bytes)
        except ExecutorError as error:
            self.worker_died = self.worker_died or error.is_gone
            reason = error.reason
            if error.status == "timeout":
                reason = f"the cell took more than its {self.limits.time_s:.3g} s; its worker was killed{error.where}"
            raise CellEndedError(stage or self.stage, error.status, reason) from error

    def ask_oracle(self, question: RequestMessage[A]) -> A:
        """Ask the oracle; its time does not count towards the cell's limit."""
        asked = time.monotonic()
        try:
            return self._oracle.ask(question)
        except ExecutorError as error:
            raise CellEndedError("agreement", "error", error.reason) from error
        finally:
            self._deadline += time.monotonic() - asked

    def keep(self, metrics: Metrics) -> None:
        """Store the metrics of an answer that are not ``None``."""
        self.values |= filled(metrics)

    def end(self, status: str, reason: str) -> NoReturn:
        """Raise to end the cell in the current stage."""
        raise CellEndedError(self.stage, status, reason)

    def pause(self) -> Iterator[None]:
        """Let another cell run; the time does not count towards the limit."""
        paused = time.monotonic()
        yield
        self._deadline += time.monotonic() - paused

    def wait_until_all_are_sampled(self) -> Iterator[None]:
        """Pause until all cells are sampled: later stages take so long that the next visit would find idle cores."""
        self.company.leave(self)
        while self.company.is_sampled:
            yield from self.pause()


def filled(metrics: Metrics) -> Values:
    """Return the metrics that are not ``None``, by name."""
    values = ((one.name, getattr(metrics, one.name)) for one in metrics_of(type(metrics)))
    return {name: value for name, value in values if value is not None}


class WorkerRequest(RequestMessage[A_co], Generic[A_co]):
    """A request to a worker, together with the code that the worker runs to answer it."""

    fails_as: ClassVar[Status] = "error"
    """Status of a failure that no other status describes."""

    @abstractmethod
    def serve(self, worker: Worker) -> A_co:
        """Serve the request in the worker. Heavy libraries are imported here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage; :mod:`attnbench.stages.table` lists all in order."""

    name: str
    """The stage's name in records."""
    requests: tuple[type[WorkerRequest[Any]], ...]
    """The requests that the stage sends to a worker."""
    run: Callable[[CellRun], Iterator[None] | None]
    """Sends the requests and keeps the metrics; yields when another cell may run."""
    is_wanted: Callable[[CellRun], bool] = lambda cell: True
