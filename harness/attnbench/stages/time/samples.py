"""Timing in the worker: warm up, then take samples on inputs that the implementation has not seen."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
from time import get_clock_info, perf_counter_ns
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from attnbench.cases.inputs.sample_inputs import Inputs, SampledRow
from attnbench.machine.interference import interference, read_counters
from attnbench.stages.stage import WorkerRequest
from attnbench.stages.time.metrics import TimeMetrics
from attnbench.stages.time.sampled_rows import FRAME
from attnbench.transport.message import AnswerMessage, Done
from attnbench.worker.output_checks import require_tensors
from attnbench.worker.timing import (
    MAX_WARMUP_CALLS,
    MAX_WARMUP_NS,
    MIN_WARMUP_NS,
    SampleWindow,
    SamplingLimits,
    calls_per_sample,
    is_quicker_again,
    resume,
    sample,
    warm_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.session import Session
    from attnbench.worker.worker import Worker

# Bound before any plug-in is imported, so that one that replaces time.perf_counter_ns has no effect here.
_CLOCK = perf_counter_ns
_JUNK_BYTES = 256 * 2**20
Cache = Literal["warm", "cold"]


class Timed(TimeMetrics, AnswerMessage):
    """All samples, and the disturbances during them."""

    warmup_ns: float = Field(ge=0)
    inputs: Inputs
    """Inputs of the last sample, whose result is kept to be judged."""
    rows: tuple[SampledRow, ...] = ()
    """Places of the rows whose bytes are in ``frames``."""
    rows_dtype: str = ""
    unusable: str | None = None
    """Why these samples do not measure the implementation."""

    @field_validator("time_samples_ns")
    @classmethod
    def _are_times(cls, samples: tuple[float, ...] | None) -> tuple[float, ...]:
        if not samples or not all(0 <= sample < math.inf for sample in samples):
            raise ValueError("there must be samples, and all of them must be times")
        return samples


class TakeSamples(WorkerRequest[Timed]):
    """On an accelerator: warm up on the first inputs, then time calls on inputs new to the implementation."""

    limits: SamplingLimits
    repetition: int
    moved: int
    """Rotation of the queries of all samples."""

    def serve(self, worker: Worker) -> Timed:
        session = worker.session
        if session.accelerator is None:
            raise RuntimeError("there is no device whose clock could be used")
        return _on_a_device(session, session.accelerator, self)


class WarmUp(WorkerRequest[Done]):
    """Warm up on the first inputs, then switch to those of the samples. Visits can follow."""

    cache: Cache
    repetition: int
    """Repetition of the samples' inputs."""
    min_ns: int = MIN_WARMUP_NS
    max_calls: int = MAX_WARMUP_CALLS
    max_ns: int = MAX_WARMUP_NS

    def serve(self, worker: Worker) -> Done:
        _warm_up(worker.session, self)
        return Done()


class Resume(WorkerRequest[Done]):
    """Make untimed calls before a visit, as other cells have used the caches meanwhile.

    Moreover, sleeping threads are woken on one processor. Until the scheduler has spread them, which takes tens of
    milliseconds, calls with two threads take twice as long.
    """

    def serve(self, worker: Worker) -> Done:
        call = worker.session.prepared()
        resume(call.run, _CLOCK, warm_ns=_window(worker.session).warmed.call_ns, set_up=call.set_up)
        return Done()


class Visited(AnswerMessage):
    """The result of a visit, by the worker's clock."""

    samples: int = Field(ge=1)
    median_ns: float = Field(ge=0)
    """Median time of one call."""
    called_ns: float = Field(ge=0)
    """Total time of all calls."""


class Visit(WorkerRequest[Visited]):
    """Take samples, each with its own inputs (:mod:`attnbench.cases.inputs.sample_inputs`)."""

    max_samples: int = Field(ge=1)
    max_ns: int
    """No further sample is taken once calls have taken this long."""

    def serve(self, worker: Worker) -> Visited:
        window = _window(worker.session)
        before = len(window.samples)
        _sample(worker.session, self.max_samples, self.max_ns)
        taken = window.samples[before:]
        return Visited(
            samples=len(taken), median_ns=statistics.median(taken), called_ns=math.fsum(taken) * window.calls
        )


class PassSamples(WorkerRequest[Done]):
    """Do all that samples need except the calls, so that the runner can time this overhead."""

    samples: int

    def serve(self, worker: Worker) -> Done:
        session = worker.session
        window = _window(session)
        for _ in range(self.samples):
            session.next_sample()
            window.set_up()
        return Done()


class EndVisits(WorkerRequest[Timed]):
    """Take the last sample, whose result is judged, and return all samples since the warm-up."""

    moved: int
    """Rotation of its queries."""

    def serve(self, worker: Worker) -> Timed:
        _sample(worker.session, 1, 0, moved=self.moved)
        return _timed(worker.session).model_copy(update={"unusable": worker.strayed()})


def _warm_up(session: Session, asked: WarmUp) -> None:
    from attnbench.worker.sampled_rows import SampledRows

    call = session.prepared()
    session.results, session.returned = [], []
    warmed = warm_up(
        call.run, _CLOCK, set_up=call.set_up, min_ns=asked.min_ns, max_calls=asked.max_calls, max_ns=asked.max_ns
    )  # fmt: skip
    session.begin_samples(asked.repetition)
    set_up, calls = call.set_up, 1
    if asked.cache == "cold":
        set_up = _cold(call)
    elif not call.needs_set_up:
        calls = calls_per_sample(warmed.call_ns, get_clock_info("perf_counter").resolution * 1e9)
        if calls > 1 and is_quicker_again(call.run, _CLOCK, session.next_sample):
            calls = 1  # each call gets its own inputs
    rows = SampledRows(session.case, session.implementation.declaration.layout)
    gc.collect()
    session.window = SampleWindow(calls, set_up, asked.cache, warmed, read_counters(), rows)


def _cold(call: Call) -> Callable[[], None]:
    """Return a set-up that flushes the caches before each call by streaming junk through them."""
    import numpy as np

    junk, add = np.zeros(_JUNK_BYTES, np.uint8), np.add

    def set_up() -> None:
        call.set_up()
        add(junk, 1, out=junk)

    return set_up


def _window(session: Session) -> SampleWindow:
    if session.window is None:
        raise RuntimeError("nothing was warmed up")
    return session.window


def _sample(session: Session, max_samples: int, max_ns: int, *, moved: int | None = None) -> None:
    window, call = _window(session), session.prepared()
    count = itertools.count(len(window.samples))
    window.result = None

    def keep_a_row(result: object) -> None:
        outputs = call.outputs(result)
        require_tensors(outputs, session.implementation.declaration.framework, session.device)
        if session.case.operator == "attention":
            window.rows.add(next(count), session.inputs, outputs["out"])

    gc.disable()
    try:
        samples, window.result = sample(
            call.run, _CLOCK, max_samples=max_samples, max_ns=max_ns, calls=window.calls, set_up=window.set_up,
            freshen=lambda: session.next_sample(moved), after=keep_a_row,
        )  # fmt: skip
    finally:
        gc.enable()
    window.samples += samples


def _timed(session: Session) -> Timed:
    """Return all samples since the warm-up, and keep the last result to be judged."""
    window = _window(session)
    if not window.samples:
        raise RuntimeError("nothing was timed yet")
    disturbed = interference(window.before, read_counters())
    session.keep(window.result)
    session.end_samples()
    return Timed(
        time_samples_ns=tuple(window.samples),
        calls_per_sample=window.calls,
        time_method="perf_counter_ns",
        cache_state=window.cache,
        warmup_calls=window.warmed.calls,
        warmup_converged=window.warmed.converged,
        warmup_ns=window.warmed.calls * window.warmed.call_ns,
        inputs=session.inputs,
        rows=window.rows.rows,
        rows_dtype=window.rows.dtype,
        frames={FRAME: window.rows.data},
        involuntary_switches=disturbed.involuntary_switches,
        major_faults=disturbed.major_faults,
        steal_share=disturbed.steal_share,
    )


def _on_a_device(session: Session, device: Accelerator, asked: TakeSamples) -> Timed:
    from attnbench.worker.cuda.sampling import warmed_samples

    session.results, session.returned = [], []
    warmed, found = warmed_samples(
        session.prepared(), device, asked.limits, refresh=lambda: session.begin_samples(asked.repetition),
        freshen=lambda: session.next_sample(asked.moved),
    )  # fmt: skip
    session.keep(found.result)
    session.end_samples()
    return Timed(
        **found.fields(),
        calls_per_sample=1,
        warmup_calls=warmed.calls,
        warmup_converged=warmed.converged,
        warmup_ns=warmed.calls * warmed.call_ns,
        inputs=session.inputs,
        unusable=found.unusable(),
    )
