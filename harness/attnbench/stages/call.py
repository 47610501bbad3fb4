"""Call: the first calls, compared bit by bit, and a call on fresh inputs if nothing is timed."""

from __future__ import annotations

import math
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING

from pydantic import Field

from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.agreement import agree
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage
from attnbench.units import duration

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker

_MAX_CALLS = 32


class CallMetrics(Metrics, stage="call"):
    """The first calls, compared with each other."""

    first_call_ns: int | None = metric(
        "first call", "The first call of all: compilation, lazy set-up.", unit="ns", join="median", better="lower"
    )
    deterministic: bool | None = metric(
        "deterministic", "All calls on equal inputs gave bitwise equal outputs.", unit="yes/no", join="all"
    )
    spread_rel: float | None = metric(
        "spread",
        "RMS of the difference of two calls on equal inputs over RMS, the largest seen; 0 if equal.",
        unit="ratio",
        join="max",
        better="lower",
    )


class Called(CallMetrics, AnswerMessage):
    """How the first calls went."""

    later_calls_ns: int
    """All calls but the first."""
    results: int = Field(ge=1, le=2)
    """How many of them differ and wait to be judged: the first, and the one that is farthest from it."""


class FirstCalls(WorkerRequest[Called]):
    """Make the first call, including any compilation or setup, then further calls on the same inputs.

    The second call finds NaN in newly allocated memory; quick calls are repeated. A call must not write into its
    inputs, return their memory or that of an earlier result, or keep working after it has returned.
    """

    def serve(self, worker: Worker) -> Called:
        from attnbench.worker.dump import equal_bits, nbytes, spread
        from attnbench.worker.memory.allocator import poisoned_memory
        from attnbench.worker.output_checks import (
            checksums,
            require_own_memory,
            require_separate_memory,
            require_unchanged,
            tensors_of,
        )
        from attnbench.worker.session import Expected

        session = worker.session
        inputs = checksums(session.placed())
        one = session.one_call()
        if session.accelerator is not None:
            session.accelerator.poison(nbytes(one.kept))
        with poisoned_memory():
            two = session.one_call()
        calls = [one, two]
        repeated_ns = one.elapsed_ns + two.elapsed_ns
        while repeated_ns < session.repeat_ns and len(calls) < _MAX_CALLS:
            calls.append(session.one_call())
            repeated_ns += calls[-1].elapsed_ns
        require_own_memory(one.live, tensors_of(session.placed()), "input")
        require_separate_memory([call.live for call in calls])
        sleep(session.repeat_ns / 3e9)  # gives a call that is still working the time to show it
        for call in calls:
            call.require_finished()
        require_unchanged(inputs, session.placed())
        session.prepared().require_conduct()
        spreads = [0.0 if equal_bits(one.kept, call.kept) else spread(one.kept, call.kept) for call in calls]
        farthest = max(range(len(calls)), key=spreads.__getitem__)
        same = all(equal_bits(one.kept, call.kept) for call in calls)
        session.results = [one.kept] if same else [one.kept, calls[farthest or 1].kept]
        session.returned = [one.live, two.live]
        later_ns = min(call.elapsed_ns for call in calls[1:])
        prepare_ns = session.prepared().prepare_ns
        session.expected = Expected(call_ns=later_ns, anew_ns=prepare_ns + max(one.elapsed_ns, later_ns))
        return Called(
            first_call_ns=one.elapsed_ns,
            later_calls_ns=repeated_ns - one.elapsed_ns,
            deterministic=same,
            spread_rel=max(spreads) if math.isfinite(max(spreads)) else None,
            results=len(session.results),
        )


class CalledAfresh(AnswerMessage):
    """Duration of the call on fresh inputs."""

    fresh_call_ns: int


class FreshCall(WorkerRequest[CalledAfresh]):
    """Make one call on inputs that the implementation has not seen."""

    def serve(self, worker: Worker) -> CalledAfresh:
        worker.session.refresh()
        return CalledAfresh(fresh_call_ns=worker.session.further_call())


def run(cell: CellRun) -> None:
    """Make the first calls; all of their results must agree."""
    asked = perf_counter_ns()
    answer = cell.ask(FirstCalls())
    called_ns = (answer.first_call_ns or 0) + answer.later_calls_ns
    took = perf_counter_ns() - asked
    if not 0 <= (answer.first_call_ns or 0) <= took or not 0 <= answer.later_calls_ns <= took:
        cell.end("invalid", f"its first calls took other times by the worker's clock than the {duration(took)} in all")
    cell.spent.first_calls += answer.first_call_ns or 0
    cell.spent.repeats += answer.later_calls_ns
    cell.spent.shown += max(0, took - called_ns)
    cell.keep(answer)
    for result in range(answer.results):
        agree(cell, inputs=Inputs(), result=result)


def run_afresh(cell: CellRun) -> None:
    """Make a call on inputs that are new to the implementation, which must agree too; used if nothing is timed."""
    cell.spent.repeats += cell.ask(FreshCall()).fresh_call_ns
    agree(cell, inputs=Inputs(repetition=1))


STAGE = Stage(name="call", requests=(FirstCalls,), run=run)
FRESH = Stage(name="call", requests=(FreshCall,), run=run_afresh, is_wanted=lambda cell: not cell.limits.timed)
