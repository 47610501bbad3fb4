"""A worker and an oracle with scripted answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attnbench import make_case
from attnbench.cases.inputs.sample_inputs import Inputs, SampledRow
from attnbench.runner.driver import drive, without_pauses
from attnbench.stages.agreement import JudgeOutputs, OutputVerdict, Select, Selected, Show, Shown
from attnbench.stages.backend import TellBackend, Told
from attnbench.stages.call import Called, CalledAfresh, FirstCalls, FreshCall
from attnbench.stages.energy import Energy, MeasureEnergy
from attnbench.stages.identities import CheckIdentities, Findings, IdentityVerdict, JudgeIdentities
from attnbench.stages.memory import Measured, MeasureMemory
from attnbench.stages.prepare import AskRefusals, Close, Load, Prepare, Prepared, Refusals
from attnbench.stages.ranks import AskSends, Formulas, MeasureRanks, RanksMeasured
from attnbench.stages.stage import CellLimits, CellRun
from attnbench.stages.table import STAGES
from attnbench.stages.time.extra_times import ExtraTimes, MeasureExtraTimes
from attnbench.stages.time.sampled_rows import FRAME, JudgeRows, RowsVerdict
from attnbench.stages.time.samples import EndVisits, PassSamples, Resume, TakeSamples, Timed, Visit, Visited, WarmUp
from attnbench.transport.executor import Executor, ExecutorError
from attnbench.transport.message import AnswerMessage, Done, RequestMessage

A = TypeVar("A", bound=AnswerMessage)

UNKNOWN = Inputs(repetition=1)
"""The inputs of timed samples."""
TIMED = Timed(
    time_samples_ns=(40_000.0,) * 10, calls_per_sample=1, warmup_ns=8e6, inputs=Inputs(repetition=1, flip_index=9),
    cache_state="cold", time_method="CUDA events, L2 flushed, launch queued ahead",
)  # fmt: skip


def visits_ended(samples: tuple[float, ...]) -> Timed:
    """Return the end of visits with these samples in ns, one of which has a row."""
    row = SampledRow(sample=0, inputs=TIMED.inputs, batch=0, head=0, row=0)
    return TIMED.model_copy(update={"time_samples_ns": samples, "rows": (row,), "frames": {FRAME: b""}})


def _visited(request: RequestMessage[Any]) -> Visited:
    assert isinstance(request, Visit)
    count = request.max_samples
    return Visited(samples=count, median_ns=40_000.0, called_ns=40_000.0 * count)


Answer = AnswerMessage | ExecutorError | Callable[[RequestMessage[Any]], AnswerMessage]
ANSWERS: dict[type[RequestMessage[Any]], Answer] = {
    Load: Done(),
    AskRefusals: Refusals(refused=(), never=True),
    Prepare: Prepared(prepare_ns=5),
    FirstCalls: Called(first_call_ns=7, later_calls_ns=1, deterministic=True, spread_rel=0.0, results=1),
    FreshCall: CalledAfresh(fresh_call_ns=1),
    Show: Shown(outputs={}),
    CheckIdentities: Findings(found={}, left_out={}),
    TakeSamples: TIMED,
    WarmUp: Done(),
    Resume: Done(),
    Visit: _visited,
    PassSamples: Done(),
    EndVisits: TIMED,
    MeasureExtraTimes: ExtraTimes(time_wall_ns=9.0, graph_refused="because", measuring_ns=1),
    MeasureMemory: Measured(memory_peak_bytes=8, measuring_ns=1),
    MeasureRanks: RanksMeasured(ranks_sent_bytes=8, due_bytes=8),
    AskSends: Formulas(told=()),
    MeasureEnergy: Energy(energy_joules=0.5, measuring_ns=1),
    TellBackend: Told(backend="kernels: flash", kernels_ns=3.0),
    Close: Done(),
}


class Scripted(Executor):
    """An executor that answers each request as scripted, and records requests."""

    def __init__(self, changed: Mapping[type[RequestMessage[Any]], Answer] | None = None) -> None:
        self.answers = {**ANSWERS, **(changed or {})}
        self.asked: list[RequestMessage[Any]] = []
        self.deadlines_s: list[float] = []
        self.is_closed = False
        self.samples = 0
        """Number of samples in visits so far."""

    @property
    def names(self) -> list[str]:
        """Return the names of the requests so far, in order."""
        return [type(request).__name__ for request in self.asked]

    def send(self, request: RequestMessage[Any]) -> None:
        self.asked.append(request)

    def receive(self, request: RequestMessage[A], deadline_s: float, memory_bytes: int | None = None) -> A:
        del memory_bytes
        self.deadlines_s.append(deadline_s)
        answer = self.answers[type(request)]
        if isinstance(answer, ExecutorError):
            raise answer
        if not isinstance(answer, AnswerMessage):
            answer = answer(request)
        if isinstance(answer, Visited):
            self.samples += answer.samples
        if answer is TIMED and isinstance(request, EndVisits):
            answer = visits_ended((40_000.0,) * (self.samples + 1))
        assert isinstance(answer, request.answer_type())
        return answer

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


@dataclasses.dataclass
class Agreeing:
    """An oracle that finds a problem on the inputs of one repetition, or none, with scripted errors."""

    wrong_on: int | None = None
    """The repetition with a problem: 0 for the first inputs, 1 for fresh ones."""
    ratios: tuple[float, ...] = ()
    """Error ratios of ``out``, one per verdict."""
    fails: bool = False

    def __post_init__(self) -> None:
        self.asked: list[RequestMessage[Any]] = []

    def ask(self, request: RequestMessage[A]) -> A:
        self.asked.append(request)
        if self.fails:
            raise ExecutorError("error", "the oracle could not judge it: it was ended by SIGKILL", is_gone=True)
        answer: AnswerMessage
        match request:
            case Select():
                answer = Selected(selection={})
            case JudgeOutputs():
                problem = "out: wrong" if min(1, request.inputs.repetition) == self.wrong_on else None
                judged = sum(isinstance(one, JudgeOutputs) for one in self.asked)
                ratio = self.ratios[judged - 1] if self.ratios else None
                rel = None if ratio is None else ratio / 10
                answer = OutputVerdict(
                    problem=problem,
                    cause=None,
                    blind=None,
                    rms={},
                    oracle_ns=1,
                    out_error_ratio=ratio,
                    out_error_rel=rel,
                )
            case JudgeRows():
                answer = RowsVerdict(problem=None, oracle_ns=1)
            case JudgeIdentities():
                answer = IdentityVerdict(problem=None, ratios={"values-of-one": 0.5})
        assert isinstance(answer, request.answer_type())
        return answer


def limits(**changed: Any) -> CellLimits:
    """Return limits for a cell whose time and memory are measured."""
    return CellLimits(**{"time_s": 60, "memory_bytes": 2**30, "measures": frozenset({"time", "memory"}), **changed})


def values_of(worker: Executor, device: str = "cuda", oracle: Any = None, **changed: Any) -> dict[str, Any]:
    """Run a cell through the stages and return its values."""
    cell = CellRun(worker, oracle or Agreeing(), make_case(), device, limits(**changed), unknown=UNKNOWN)
    return without_pauses(drive(cell, STAGES))
