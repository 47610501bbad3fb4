"""Time: warm-up, then samples of calls on inputs that the implementation has not seen."""

from __future__ import annotations

import gc
import math
from time import get_clock_info, perf_counter_ns
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from attnbench.machine.interference import interference, read_counters
from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.agreement import agree
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage, Done
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
    from collections.abc import Callable, Iterator

    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.session import Session
    from attnbench.worker.worker import Worker

# Bound before any plug-in is imported: one that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_JUNK_BYTES = 256 * 2**20
_WITHOUT_END_NS = 2**62
Cache = Literal["warm", "cold"]


class TimeMetrics(Metrics, stage="time"):
    """The time of one call, and what disturbed its measurement. On CUDA, device time with a cold L2 cache."""

    time_samples_ns: tuple[float, ...] | None = metric(
        "samples", "Raw samples in order, per call.", unit="ns", join="concatenate", only_ok=True
    )
    time_median_ns: float | None = metric(
        "median", "Median time of one call.", unit="ns", join="median", only_ok=True, better="lower"
    )
    time_ci_low_ns: float | None = metric(
        "95 % from", "Lower end of the 95 % confidence interval of the median (binomial).", unit="ns", join="derived",
        only_ok=True,
    )  # fmt: skip
    time_ci_high_ns: float | None = metric(
        "95 % to", "Upper end of the 95 % confidence interval of the median (binomial).", unit="ns", join="derived",
        only_ok=True,
    )  # fmt: skip
    time_min_ns: float | None = metric(
        "minimum", "The fastest sample.", unit="ns", join="median", only_ok=True, better="lower"
    )
    time_q1_ns: float | None = metric("q1", "First quartile of the samples.", unit="ns", join="median", only_ok=True)
    time_q3_ns: float | None = metric("q3", "Third quartile of the samples.", unit="ns", join="median", only_ok=True)
    time_outliers: int | None = metric(
        "outliers", "Samples above q3 + 3 IQR; they are kept.", unit="count", join="max", only_ok=True
    )
    warmup_calls: int | None = metric("warm-up calls", "Calls before the first sample.", unit="count", join="max")
    warmup_converged: bool | None = metric(
        "warm-up converged", "Medians of two successive windows within 2 %.", unit="yes/no", join="all"
    )
    calls_per_sample: int | None = metric("calls per sample", "Calls that make one sample.", unit="count", join="max")
    time_method: str | None = metric("clock", "How time was measured.", unit="text", only_ok=True)
    cache_state: str | None = metric(
        "cache", "warm: inputs as the last call left them; cold: cache flushed.", unit="text"
    )
    host_enqueue_ns: float | None = metric(
        "launch", "CUDA: median of the host's time to queue a call.", unit="ns", join="median", better="lower"
    )
    launch_bound: bool | None = metric(
        "launch-bound", "CUDA: queueing takes the host longer than the device works.", unit="yes/no", join="any"
    )
    sm_clock_mhz: tuple[int, ...] | None = metric(
        "SM clock", "CUDA: SM clock while each sample ran.", unit="MHz", join="concatenate"
    )
    time_sample_tags: tuple[str | None, ...] | None = metric(
        "disturbed by", "What disturbed each sample; null as a whole where nothing did.", unit="text",
        join="concatenate", only_ok=True,
    )  # fmt: skip
    throttled_by: tuple[str, ...] | None = metric(
        "throttled by", "CUDA: what held the clock down during samples, in NVML's words.", unit="text", join="union"
    )
    involuntary_switches: int | None = metric(
        "context switches", "Context switches forced on the timed window.", unit="count", join="max", better="lower"
    )
    major_faults: int | None = metric(
        "major faults", "Page faults that went to disk in the timed window.", unit="count", join="max", better="lower"
    )
    steal_share: float | None = metric(
        "stolen", "Share of the timed window that the hypervisor gave to others.", unit="ratio", join="max",
        better="lower",
    )  # fmt: skip


class Timed(TimeMetrics, AnswerMessage):
    """All samples, and what disturbed them."""

    warmup_ns: float = Field(ge=0)
    flip_index: int
    """Of the inputs when the last sample was taken, whose result waits to be judged."""
    unusable: str | None = None
    """Why these samples say nothing of the implementation."""

    @field_validator("time_samples_ns")
    @classmethod
    def _are_times(cls, samples: tuple[float, ...] | None) -> tuple[float, ...]:
        if not samples or not all(0 <= sample < math.inf for sample in samples):
            raise ValueError("there must be samples, and all of them must be times")
        return samples


class TakeSamples(WorkerRequest[Timed]):
    """Warm up on the first inputs, then time calls on inputs that the implementation has not seen.

    Each sample has inputs of its own: V's signs have flipped once more (:mod:`attnbench.cases.sign_flips`).
    """

    limits: SamplingLimits
    cache: Cache

    def serve(self, worker: Worker) -> Timed:
        session = worker.session
        if session.accelerator is not None:
            return _on_a_device(session, session.accelerator, self.limits)
        _warm_up(session, self.cache, MIN_WARMUP_NS, MAX_WARMUP_CALLS)
        _sample(session, self.limits)
        return _timed(session)


class WarmUp(WorkerRequest[Done]):
    """Warm up on the first inputs, then take the next ones: blocks of samples can follow."""

    cache: Cache
    min_ns: int = MIN_WARMUP_NS
    max_calls: int = MAX_WARMUP_CALLS

    def serve(self, worker: Worker) -> Done:
        _warm_up(worker.session, self.cache, self.min_ns, self.max_calls)
        return Done()


class TakeBlock(WorkerRequest[Done]):
    """So many samples, after a call that is not timed: whoever ran meanwhile has taken the caches."""

    samples: int

    def serve(self, worker: Worker) -> Done:
        call = worker.session.prepared()
        call.set_up()
        call.run()
        limits = SamplingLimits(min_samples=self.samples, max_samples=self.samples, sampling_ns=_WITHOUT_END_NS)
        _sample(worker.session, limits)
        return Done()


class EndBlocks(WorkerRequest[Timed]):
    """All samples since the warm-up."""

    def serve(self, worker: Worker) -> Timed:
        return _timed(worker.session)


def _warm_up(session: Session, cache: Cache, min_ns: int, max_calls: int) -> None:
    call = session.prepared()
    session.results = []
    set_up = call.set_up_hook
    warmed = warm_up(call.run, _CLOCK, set_up=set_up, min_ns=min_ns, max_calls=max_calls)
    session.refresh()
    calls = 1
    if cache == "cold":
        set_up = _cold(call)
    elif set_up is None:
        calls = calls_per_sample(warmed.call_ns, get_clock_info("perf_counter").resolution * 1e9)
    gc.collect()
    session.window = SampleWindow(calls, set_up, cache, warmed, read_counters())


def _cold(call: Call) -> Callable[[], object]:
    """A set-up that streams junk through the caches before each call, so that it finds none of its inputs there."""
    import numpy as np

    junk, add = np.zeros(_JUNK_BYTES, np.uint8), np.add

    def set_up() -> None:
        call.set_up()
        add(junk, 1, out=junk)

    return set_up


def _sample(session: Session, limits: SamplingLimits) -> None:
    window = session.window
    if window is None:
        raise RuntimeError("nothing was warmed up")
    done = len(window.samples)
    window.result = None
    gc.disable()
    try:
        samples, window.result = sample(
            session.prepared().run, _CLOCK, limits, calls=window.calls, set_up=window.set_up,
            freshen=lambda number: session.flip_signs(done + number),
        )  # fmt: skip
    finally:
        gc.enable()
    window.samples += samples


def _timed(session: Session) -> Timed:
    """All samples since the warm-up; the last result stays, to be judged."""
    window = session.window
    if window is None or not window.samples:
        raise RuntimeError("nothing was timed yet")
    disturbed = interference(window.before, read_counters())
    session.keep(window.result)
    session.window = None
    return Timed(
        time_samples_ns=tuple(window.samples),
        calls_per_sample=window.calls,
        time_method="perf_counter_ns",
        cache_state=window.cache,
        warmup_calls=window.warmed.calls,
        warmup_converged=window.warmed.converged,
        warmup_ns=window.warmed.calls * window.warmed.call_ns,
        flip_index=len(window.samples) - 1,
        involuntary_switches=disturbed.involuntary_switches,
        major_faults=disturbed.major_faults,
        steal_share=disturbed.steal_share,
    )


def _on_a_device(session: Session, device: Accelerator, limits: SamplingLimits) -> Timed:
    from attnbench.worker.cuda.sampling import warmed_samples

    session.results = []
    warmed, found = warmed_samples(
        session.prepared(), device, limits, refresh=session.refresh, flip_signs=session.flip_signs
    )
    session.keep(found.result)
    return Timed(
        **found.fields(),
        calls_per_sample=1,
        warmup_calls=warmed.calls,
        warmup_converged=warmed.converged,
        warmup_ns=warmed.calls * warmed.call_ns,
        flip_index=len(found.ns) - 1,
        unusable=found.unusable(),
    )


def run(cell: CellRun) -> Iterator[None]:
    """Take samples; the last timed output must agree, and nothing physical may have disturbed them."""
    limits = cell.limits
    if limits.blocks and cell.device == "cpu":
        yield from cell.pause()
        cell.ask(WarmUp(cache=limits.cache, min_ns=limits.warmup_ns, max_calls=limits.warmup_calls))
        for block in range(limits.blocks):
            yield from cell.pause()
            first, end = (limits.sampling.min_samples * n // limits.blocks for n in (block, block + 1))
            cell.ask(TakeBlock(samples=end - first))
        answer = cell.ask(EndBlocks())
    else:
        answer = cell.ask(TakeSamples(limits=limits.sampling, cache=limits.cache))
    samples = answer.time_samples_ns or ()
    cell.spent.warmup += answer.warmup_ns
    cell.spent.samples += sum(samples) * (answer.calls_per_sample or 1)
    cell.keep(answer)
    agree(cell, repetition=1, flip_index=answer.flip_index)
    if answer.unusable:
        cell.end("invalid", answer.unusable)


STAGE = Stage(
    name="time",
    requests=(TakeSamples, WarmUp, TakeBlock, EndBlocks),
    run=run,
    is_wanted=lambda cell: cell.limits.timed,
)
