"""Profile: the breakdown of a call's time. It is never taken in a process whose times are kept."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING

from pydantic import Field

from attnbench.profiling.code.perf_map import VARIABLES
from attnbench.profiling.parts import Counted, KernelsOfCall, MemoryOfCall, Sampled
from attnbench.profiling.phases import Phase
from attnbench.stages.stage import WorkerRequest
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.profiling.operators import Operator, OperatorClock
    from attnbench.worker.worker import Worker

WALL_NS = 3_000_000_000
SAMPLES = 6_000
_OPTIONAL = {"pyelftools": "elftools", "capstone": "capstone"}
"""Packages of the extra `profile`, and their modules."""
COUNTED_NS = 300_000_000
NAMING_VARIABLES = {"NUMBA_DEBUGINFO": "1", **VARIABLES}
"""Environment of a process that shall compile with lines and names."""


class Profiled(Sampled, AnswerMessage):
    """A profile by the worker's clocks, in nanoseconds per call, averaged over threads."""

    refused: str | None = None
    """Why there is no profile."""
    plain_ns: float = 0
    """Median time of calls without the sampler."""
    sampled_ns: float = 0
    """Median time of calls with the sampler."""
    mean_ns: float = 0
    """Mean time of calls with the sampler: phases and ``kept_waiting_ns`` add up to it."""
    by_phase: dict[Phase, int] = Field(default_factory=dict)
    """Number of samples of each phase."""
    sample_ns: float = 0
    waiting_ns: float = 0
    """Time in which threads did not run."""
    kept_waiting_ns: float = 0
    """Time in which threads could have run, but other processes did."""
    system_ns: float = 0
    """Time in the kernel, if it cannot be sampled."""
    begins_ns: int = 0
    """Start of both time lines on this machine's monotonic clock."""
    no_memory: str | None = None
    """Why there is no memory profile."""
    not_installed: tuple[str, ...] = ()
    """Missing packages that would add detail."""


class TracedKernels(AnswerMessage):
    """The kernels of a call on a GPU."""

    kernels: KernelsOfCall


class TraceKernels(WorkerRequest[TracedKernels]):
    """Make calls on a GPU, and trace their kernels."""

    def serve(self, worker: Worker) -> TracedKernels:
        from attnbench.worker.cuda.kernel_trace import trace_kernels
        from attnbench.worker.cuda.proton_scopes import scopes_of_calls

        call = worker.session.prepared()
        kernels = trace_kernels(call.run, call.set_up)
        try:
            scopes, refused = scopes_of_calls(call.run, call.set_up), None
        except Exception as error:  # noqa: BLE001 - the kernels are known all the same
            scopes, refused = (), f"Proton: {type(error).__name__}: {error}"
        return TracedKernels(kernels=kernels.model_copy(update={"scopes": scopes, "no_scopes": refused}))


class TakeProfile(WorkerRequest[Profiled]):
    """Make calls, sample all threads, and attribute the samples to phases, functions and lines."""

    threads: int
    wall_ns: int = WALL_NS
    samples: int = SAMPLES
    assembly: bool = False
    """Whether to list instructions too."""

    def serve(self, worker: Worker) -> Profiled:
        import collections
        import statistics

        from attnbench.profiling import summary
        from attnbench.profiling.attribution import Attribution, rules_from, told_by_the_caller
        from attnbench.profiling.code.addresses import AddressSpace
        from attnbench.profiling.perf_events import SamplingRefusedError
        from attnbench.profiling.recording import calls_for, record, sources_of
        from attnbench.profiling.timeline import timeline

        session = worker.session
        call, implementation = session.prepared(), session.implementation
        rules = rules_from(implementation.phase_table, implementation.declaration.name)
        files = sources_of(implementation.call)
        clock = _operator_clock(implementation.declaration.framework)
        try:
            recording = record(
                call.run, call.set_up, files,
                threads=self.threads, wall_ns=self.wall_ns, samples=self.samples, operators=clock,
            )  # fmt: skip
        except SamplingRefusedError as error:
            return Profiled(refused=str(error))
        operators, no_operators = _operators(clock, recording.traced.starts_ns, implementation.declaration.framework)
        space = AddressSpace()
        counted, not_counted = _counted(lambda: calls_for(call.run, call.set_up, COUNTED_NS))
        memory, no_memory = _memory(worker, files, recording.begins_ns)
        attribution = Attribution(space, rules, recording.lines)
        few = recording.traced.samples  # attributed with the others, which reveal call sites
        both = attribution.attribute([*few, *recording.samples])
        found = told_by_the_caller(recording.samples, both[len(few) :], recording.main_thread, recording.near_ns)
        scale = summary.scale_of(recording, self.threads)
        durations = [end - start for start, end in zip(recording.starts_ns, recording.ends_ns, strict=True)]
        return Profiled(
            plain_ns=statistics.median(recording.plain_ns),
            sampled_ns=statistics.median(durations),
            mean_ns=statistics.fmean(durations),
            calls=len(durations),
            samples=len(found),
            lost=recording.lost,
            period_ns=recording.period_ns,
            has_kernel=recording.with_kernel,
            has_lines=space.has_lines,
            by_phase=dict(collections.Counter(one.phase for one in found)),
            **dataclasses.asdict(scale),
            functions=summary.functions(found, scale),
            lines=summary.lines(found, scale, files),
            instructions=summary.instructions(recording, found, scale, space) if self.assembly else (),
            stacks=summary.stacks(recording, found, scale),
            begins_ns=recording.begins_ns,
            timeline=timeline(recording, both[: len(few)], operators),
            no_operators=no_operators,
            counted=counted,
            not_counted=not_counted,
            memory=memory,
            no_memory=no_memory,
            not_installed=tuple(name for name, module in _OPTIONAL.items() if not _is_installed(module)),
        )


def _is_installed(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _counted(calls: Callable[[], int]) -> tuple[Counted | None, str | None]:
    """Return the hardware counters of one call, or the reason why there are none."""
    from attnbench.profiling.counters import NoCountersError, count

    try:
        return count(calls), None
    except NoCountersError as error:
        return None, str(error)


def _operator_clock(framework: str) -> OperatorClock | None:
    from attnbench.profiling.operators import OperatorClock

    return OperatorClock() if framework == "torch" else None


def _operators(
    clock: OperatorClock | None, starts_ns: Sequence[int], framework: str
) -> tuple[list[Operator], str | None]:
    """Return the operators of the traced calls, or the reason why there are none."""
    from attnbench.profiling.operators import NoOperatorsError

    if clock is None:
        return [], f"no operators: they are torch's, and this implementation is {framework}'s"
    try:
        found = clock.operators(starts_ns)
    except NoOperatorsError as error:
        return [], f"no operators: {error}"
    return found, None if found else "no operators: torch ran none in these calls"


def _memory(worker: Worker, files: frozenset[str], begins_ns: int) -> tuple[MemoryOfCall | None, str | None]:
    """Return the footprint of one call with the blocks at its peak, or the reason why it is unknown."""
    from attnbench.worker.memory import weighing
    from attnbench.worker.memory.blocks import NoBlocksError, blocks_at_peak
    from attnbench.worker.memory.lines import memory_by_line

    if refused := weighing.unsupported():
        return None, refused
    call = worker.session.prepared()
    worker.session.results = []
    try:
        found = memory_by_line(call.run, call.set_up, files, begins_ns)
    except (weighing.UnsettledError, OSError) as error:
        return None, str(error)
    try:
        return found.model_copy(update={"blocks": blocks_at_peak(call.run, call.set_up)}), None
    except NoBlocksError as error:
        return found.model_copy(update={"blocks_note": str(error)}), None
