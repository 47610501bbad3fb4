"""A stage, and the cell that goes through it, as the driver sees them (:mod:`attnbench.runner.driver`)."""

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
"""Metrics by name, as they will stand in a record."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellLimits:
    """The limits of a cell, and the stages that are wanted."""

    time_s: float
    memory_bytes: int | None
    measures: frozenset[str] = frozenset()
    """Stages that are wanted beside agreement: ``time``, ``memory``, ..."""
    sampling: SamplingLimits = dataclasses.field(default_factory=SamplingLimits)
    cache: Literal["warm", "cold"] = "warm"
    visits: int | None = None
    """On a CPU, the samples are shared out between exactly so many visits; else there are as many as it takes. Whoever
    drives the cell may let another one run between them."""
    warmup_ns: int = MIN_WARMUP_NS
    """Less than the protocol's where the processor is awake anyway."""
    warmup_calls: int = MAX_WARMUP_CALLS

    @property
    def timed(self) -> bool:
        """Whether time is measured."""
        return "time" in self.measures


@dataclasses.dataclass
class Spent:
    """How a cell's time was spent, in nanoseconds."""

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
    """The cells that take turns, while they are sampled."""

    def __init__(self, *, is_here: bool = False) -> None:
        """``is_here``: whether they run on the machine of the oracle, which can tell its pace."""
        self.is_here = is_here
        self.heartbeats: list[float] = []
        """Nanoseconds, one for each round of visits."""
        self._sampled: set[CellRun] = set()

    @property
    def heartbeat_ns(self) -> float | None:
        """Their median."""
        return statistics.median(self.heartbeats) if self.heartbeats else None

    def join(self, cell: CellRun) -> None:
        """A cell will be sampled."""
        self._sampled.add(cell)

    def leave(self, cell: CellRun) -> None:
        """It has its samples, or has ended without."""
        self._sampled.discard(cell)

    @property
    def is_sampled(self) -> bool:
        """Whether any of them still is."""
        return bool(self._sampled)


class Judge(Protocol):
    """Knows the right answers and judges outputs."""

    def ask(self, request: RequestMessage[A]) -> A:
        """Answer a question, or raise :class:`ExecutorError`."""


class CellRun:
    """A cell on its way through the stages. ``values`` grows with what each one measured."""

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
        """Begin.

        The oracle's budget follows ``stores_scores``. ``unknown`` are the inputs of timed samples, drawn where none are
        given, and ``ranks`` is how many processes the worker is, where it is several.
        """
        self.company = company or Company()
        self.company.join(self)
        self.unknown = unknown or unknown_inputs(case)
        self.case, self.device, self.limits, self.stores_scores = case, device, limits, stores_scores
        self.ranks = ranks
        self.values: Values = {}
        self.kept: dict[int, bytes] = {}
        """The weights that were not dropped, by the repetition of the inputs."""
        self.inputs = Inputs()
        """Inputs of the latest result that was judged."""
        self.spent = Spent()
        self.stage = ""
        self.worker_died = False
        self._worker, self._oracle = worker, oracle
        self._deadline = time.monotonic() + limits.time_s
        self._most_bytes = worker.resident_bytes() + limits.memory_bytes if limits.memory_bytes else None

    @property
    def left_s(self) -> float:
        """Until the cell has taken too long."""
        return max(0.001, self._deadline - time.monotonic())

    def ask(self, request: RequestMessage[A], *, stage: str | None = None) -> A:
        """Ask the worker; anything but an answer ends the cell, in this stage where no other one is named."""
        try:
            return self._worker.ask(request, self.left_s, self._most_bytes)
        except ExecutorError as error:
            self.worker_died = self.worker_died or error.is_gone
            reason = error.reason
            if error.status == "timeout":
                reason = f"the cell took more than its {self.limits.time_s:.3g} s; its worker was killed{error.where}"
            raise CellEndedError(stage or self.stage, error.status, reason) from error

    def ask_oracle(self, question: RequestMessage[A]) -> A:
        """Ask the oracle, whose time is not the implementation's."""
        asked = time.monotonic()
        try:
            return self._oracle.ask(question)
        except ExecutorError as error:
            raise CellEndedError("agreement", "error", error.reason) from error
        finally:
            self._deadline += time.monotonic() - asked

    def keep(self, metrics: Metrics) -> None:
        """Keep those metrics of an answer that are there."""
        self.values |= filled(metrics)

    def end(self, status: str, reason: str) -> NoReturn:
        """End the cell in this stage."""
        raise CellEndedError(self.stage, status, reason)

    def pause(self) -> Iterator[None]:
        """Let another cell run; the time does not count."""
        paused = time.monotonic()
        yield
        self._deadline += time.monotonic() - paused

    def wait_until_all_are_sampled(self) -> Iterator[None]:
        """Let the others go on: what comes after samples takes so long that the next visit would find cold cores."""
        self.company.leave(self)
        while self.company.is_sampled:
            yield from self.pause()


def filled(metrics: Metrics) -> Values:
    """The metrics that are there, by name."""
    values = ((one.name, getattr(metrics, one.name)) for one in metrics_of(type(metrics)))
    return {name: value for name, value in values if value is not None}


class WorkerRequest(RequestMessage[A_co], Generic[A_co]):
    """A request to a worker, with the worker's answer to it."""

    fails_as: ClassVar[Status] = "error"
    """The status of what goes wrong in no other way."""

    @abstractmethod
    def serve(self, worker: Worker) -> A_co:
        """Do it in the worker; heavy libraries are imported there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage; they stand in their order in :mod:`attnbench.stages.table`."""

    name: str
    """The stage's name in records."""
    requests: tuple[type[WorkerRequest[Any]], ...]
    """The requests that the stage sends to a worker."""
    run: Callable[[CellRun], Iterator[None] | None]
    """Asks, and keeps what is measured; pauses where another cell may run."""
    is_wanted: Callable[[CellRun], bool] = lambda cell: True
