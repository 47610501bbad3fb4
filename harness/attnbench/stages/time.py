"""Time: warm-up, then samples of calls on inputs that the implementation has not seen."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
from time import get_clock_info, perf_counter_ns
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from attnbench.cases.sample_inputs import Inputs, SampledRow
from attnbench.machine.interference import interference, read_counters
from attnbench.stages.agreement import agree
from attnbench.stages.sampled_rows import FRAME, judge_rows
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.stages.time_metrics import TimeMetrics
from attnbench.transport.message import AnswerMessage, Done
from attnbench.units import duration
from attnbench.worker.timing import (
    MAX_WARMUP_CALLS,
    MIN_WARMUP_NS,
    SampleWindow,
    SamplingLimits,
    calls_per_sample,
    sample,
    warm_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.session import Session
    from attnbench.worker.worker import Worker

# Bound before any plug-in is imported: one that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_JUNK_BYTES = 256 * 2**20
_WITHOUT_END_NS = 2**62
_PASSED = 3
_MOST_LONGER = 1.5
_SLACK_NS = 1e6
_BLOCKS_IN_DOUBT = 8
Cache = Literal["warm", "cold"]


class Timed(TimeMetrics, AnswerMessage):
    """All samples, and what disturbed them."""

    warmup_ns: float = Field(ge=0)
    inputs: Inputs
    """Of the last sample, whose result waits to be judged."""
    rows: tuple[SampledRow, ...] = ()
    """Where the rows stood whose bytes are in ``frames``."""
    rows_dtype: str = ""
    unusable: str | None = None
    """Why these samples say nothing of the implementation."""

    @field_validator("time_samples_ns")
    @classmethod
    def _are_times(cls, samples: tuple[float, ...] | None) -> tuple[float, ...]:
        if not samples or not all(0 <= sample < math.inf for sample in samples):
            raise ValueError("there must be samples, and all of them must be times")
        return samples


class TakeSamples(WorkerRequest[Timed]):
    """On a device: warm up on the first inputs, then time calls on inputs that the implementation has not seen."""

    limits: SamplingLimits
    repetition: int
    moved: int
    """Of all samples' queries."""

    def serve(self, worker: Worker) -> Timed:
        session = worker.session
        if session.accelerator is None:
            raise RuntimeError("there is no device whose clock could be used")
        return _on_a_device(session, session.accelerator, self)


class WarmUp(WorkerRequest[Done]):
    """Warm up on the first inputs, then take the next ones: blocks of samples can follow."""

    cache: Cache
    repetition: int
    """Of the samples' inputs."""
    min_ns: int = MIN_WARMUP_NS
    max_calls: int = MAX_WARMUP_CALLS

    def serve(self, worker: Worker) -> Done:
        _warm_up(worker.session, self)
        return Done()


class Resume(WorkerRequest[Done]):
    """One call that is not timed: whoever ran meanwhile has taken the caches."""

    def serve(self, worker: Worker) -> Done:
        call = worker.session.prepared()
        call.set_up()
        call.run()
        return Done()


class Block(AnswerMessage):
    """How a block of samples went."""

    samples: int
    called_ns: float = Field(ge=0)
    """In calls, by the worker's clock."""


class TakeBlock(WorkerRequest[Block]):
    """Take samples. Each has inputs of its own (:mod:`attnbench.cases.sample_inputs`)."""

    limits: SamplingLimits

    def serve(self, worker: Worker) -> Block:
        session = worker.session
        window = _window(session)
        before = len(window.samples)
        _sample(session, self.limits)
        taken = window.samples[before:]
        return Block(samples=len(taken), called_ns=sum(taken) * window.calls)


class PassSamples(WorkerRequest[Done]):
    """Do what is done for samples, but no calls: the runner sees how long that takes."""

    samples: int

    def serve(self, worker: Worker) -> Done:
        session = worker.session
        set_up = _window(session).set_up
        for _ in range(self.samples):
            session.next_sample()
            if set_up is not None:
                set_up()
        return Done()


class EndBlocks(WorkerRequest[Timed]):
    """Take the last sample, whose result will be judged, and return all of them since the warm-up."""

    moved: int
    """Of its queries."""

    def serve(self, worker: Worker) -> Timed:
        one = SamplingLimits(min_samples=1, max_samples=1, sampling_ns=_WITHOUT_END_NS)
        _sample(worker.session, one, moved=self.moved)
        return _timed(worker.session)


def _warm_up(session: Session, asked: WarmUp) -> None:
    from attnbench.worker.sampled_rows import SampledRows

    call = session.prepared()
    session.results = []
    set_up = call.set_up_hook
    warmed = warm_up(call.run, _CLOCK, set_up=set_up, min_ns=asked.min_ns, max_calls=asked.max_calls)
    session.begin_samples(asked.repetition)
    calls = 1
    if asked.cache == "cold":
        set_up = _cold(call)
    elif set_up is None:
        calls = calls_per_sample(warmed.call_ns, get_clock_info("perf_counter").resolution * 1e9)
    rows = SampledRows(session.case, session.implementation.declaration.layout)
    gc.collect()
    session.window = SampleWindow(calls, set_up, asked.cache, warmed, read_counters(), rows)


def _cold(call: Call) -> Callable[[], object]:
    """A set-up that streams junk through the caches before each call, so that it finds none of its inputs there."""
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


def _sample(session: Session, limits: SamplingLimits, *, moved: int | None = None) -> None:
    window, call = _window(session), session.prepared()
    done = len(window.samples)
    window.result = None
    count = itertools.count(done)

    def keep_a_row(result: object) -> None:
        outputs = call.outputs(result)
        if session.case.operator == "attention" and hasattr(outputs.get("out"), "shape"):
            window.rows.add(next(count), session.inputs, outputs["out"])

    gc.disable()
    try:
        samples, window.result = sample(
            call.run, _CLOCK, limits, calls=window.calls, set_up=window.set_up,
            freshen=lambda: session.next_sample(moved), after=keep_a_row,
        )  # fmt: skip
    finally:
        gc.enable()
    window.samples += samples


def _timed(session: Session) -> Timed:
    """All samples since the warm-up; the last result stays, to be judged."""
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

    session.results = []
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


def run(cell: CellRun) -> Iterator[None]:
    """Take samples; rows of them and the last output must agree, and nothing physical may have disturbed them."""
    if cell.device == "cpu":
        answer = yield from _in_blocks(cell)
    else:
        unknown = cell.unknown
        asked = TakeSamples(limits=cell.limits.sampling, repetition=unknown.repetition, moved=unknown.moved)
        answer = cell.ask(asked)
    samples = answer.time_samples_ns or ()
    cell.spent.warmup += answer.warmup_ns
    cell.spent.samples += sum(samples) * (answer.calls_per_sample or 1)
    cell.keep(answer)
    judge_rows(cell, answer.rows, len(samples), answer.rows_dtype, answer.frames)
    agree(cell, inputs=answer.inputs)
    if answer.unusable:
        cell.end("invalid", answer.unusable)


def _in_blocks(cell: CellRun) -> Generator[None, None, Timed]:
    """Samples in blocks, between which another cell may run; one block where no blocks are asked for."""
    limits, sampling = cell.limits, _but_one(cell.limits.sampling)
    if limits.blocks:
        yield from cell.pause()
    cell.ask(
        WarmUp(
            cache=limits.cache,
            repetition=cell.unknown.repetition,
            min_ns=limits.warmup_ns,
            max_calls=limits.warmup_calls,
        )
    )
    watch = Stopwatch(cell)
    for block in range(limits.blocks):
        yield from cell.pause()
        first, end = (sampling.min_samples * n // limits.blocks for n in (block, block + 1))
        cell.ask(Resume())
        count = end - first
        watch.time(SamplingLimits(min_samples=count, max_samples=count, sampling_ns=_WITHOUT_END_NS))
    if not limits.blocks:
        watch.time(sampling)
    watch.time_again_if_in_doubt()
    answer = cell.ask(EndBlocks(moved=cell.unknown.moved))
    watch.require(answer)
    return answer


def _but_one(limits: SamplingLimits) -> SamplingLimits:
    """Without the last sample, which is asked for by itself."""
    least, most = max(1, limits.min_samples - 1), max(1, limits.max_samples - 1)
    return dataclasses.replace(limits, min_samples=least, max_samples=most)


class Stopwatch:
    """The runner's own clock beside the worker's, which a plug-in can reach.

    What a block takes here, less what as many samples take without calls, cannot be much more than what the worker says
    of the calls. Other work beside it lengthens both, so only what is in doubt block after block is held against the
    cell.
    """

    def __init__(self, cell: CellRun) -> None:
        self._cell = cell
        self._blocks: list[_Watched] = []
        self._passed(_PASSED)  # the first ones touch new memory
        self._passed_ns = self._passed(_PASSED) / _PASSED

    def time(self, limits: SamplingLimits) -> None:
        """Have a block taken, and see how long that takes."""
        took_ns, block = self._took(limits)
        self._blocks.append(_Watched(block, took_ns, self._passed_ns * block.samples))

    def time_again_if_in_doubt(self) -> None:
        """Take more samples while none of the blocks so far was as long as it ought to be.

        The load may have changed meanwhile: as many samples are passed right before or after.
        """
        count = self._blocks[-1].block.samples
        more = SamplingLimits(min_samples=count, max_samples=count, sampling_ns=_WITHOUT_END_NS)
        while len(self._blocks) < _BLOCKS_IN_DOUBT and self._all_in_doubt():
            passed_before = self._passed(count) if len(self._blocks) % 2 else None
            took_ns, block = self._took(more)
            passed_ns = self._passed(count) if passed_before is None else passed_before
            self._blocks.append(_Watched(block, took_ns, passed_ns))

    def require(self, answer: Timed) -> None:
        """End the cell where the worker's times cannot be."""
        said = sum(one.block.called_ns for one in self._blocks)
        kept = sum((answer.time_samples_ns or ())[:-1]) * (answer.calls_per_sample or 1)
        if not math.isclose(said, kept, rel_tol=1e-9):
            self._cell.end(
                "invalid", f"its samples add up to {duration(kept)}, and to {duration(said)} when they were taken"
            )
        if self._all_in_doubt():
            seen = duration(sum(max(0.0, one.took_ns - one.passed_ns) for one in self._blocks))
            self._cell.end(
                "invalid", f"by the worker's clock its samples took {duration(said)}, by the runner's {seen}"
            )

    def _took(self, limits: SamplingLimits) -> tuple[float, Block]:
        began = perf_counter_ns()
        block = self._cell.ask(TakeBlock(limits=limits))
        return perf_counter_ns() - began, block

    def _passed(self, samples: int) -> float:
        began = perf_counter_ns()
        self._cell.ask(PassSamples(samples=samples))
        return perf_counter_ns() - began

    def _all_in_doubt(self) -> bool:
        return all(one.is_in_doubt for one in self._blocks)


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A block beside the runner's clock."""

    block: Block
    took_ns: float
    passed_ns: float
    """Of as many samples without calls."""

    @property
    def is_in_doubt(self) -> bool:
        return self.took_ns > _MOST_LONGER * (self.block.called_ns + self.passed_ns) + _SLACK_NS


STAGE = Stage(
    name="time",
    requests=(TakeSamples, WarmUp, Resume, TakeBlock, PassSamples, EndBlocks),
    run=run,
    is_wanted=lambda cell: cell.limits.timed,
)
