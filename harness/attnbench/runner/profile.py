"""Profiles cells that a run found right, each in a separate process whose times are not stored."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, TypeVar

from scipy.stats import binomtest

from attnbench.machine.caches import own_cache
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.profiling.parts import FunctionTime, InstructionTime, KernelsOfCall, MemoryOfCall, Sampled, Span, Stack
from attnbench.profiling.phases import Phase
from attnbench.profiling.recording import Marker
from attnbench.runner.driver import drive, without_pauses
from attnbench.runner.floors import floors
from attnbench.runner.oracle import Oracle
from attnbench.runner.workers import Workers
from attnbench.stages import call, prepare
from attnbench.stages.profile import NAMING_VARIABLES, Profiled, TakeProfile, TraceKernels
from attnbench.stages.stage import CellLimits, CellRun, Stage
from attnbench.store.profile import CellProfile, PhaseTime
from attnbench.transport.executor import ExecutorError
from attnbench.transport.host import LOCAL_HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from attnbench.runner.floors import Floor
    from attnbench.runner.planning.plan import Cell
    from attnbench.transport.host import Host

P = TypeVar("P", FunctionTime, InstructionTime, Stack)
_LIMITS = CellLimits(time_s=900.0, memory_bytes=None)
"""In seconds, enough to compile kernels again with line information."""
_LEAST_NS = 1e-3
_MEMORY_BYTES = 2**18
_DISTURBED = 0.05
"""The least share of a call's time that is worth a sentence."""
_DEBUG_CACHE = "numba-with-lines"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileSetting:
    """Settings for profiling cells."""

    threads: int
    wall_ns: int
    samples: int
    assembly: bool
    tflops: Mapping[str, float]
    exponentials_per_ns: float | None


def profile_cells(
    cells: Sequence[Cell],
    records: Sequence[Mapping[str, Any]],
    setting: ProfileSetting,
    begins: Callable[[Cell], None],
    host: Host = LOCAL_HOST,
) -> Iterator[CellProfile]:
    """Profile cells one after the other.

    ``records`` holds each cell's record from a run without a profiler. ``begins`` is called with each cell before it is
    profiled.
    """
    plain = worker_environment(setting.threads)
    environment = {**plain, **NAMING_VARIABLES, "NUMBA_CACHE_DIR": str(own_cache() / _DEBUG_CACHE)}
    with (
        contextlib.closing(Oracle(setting.threads, plain)) as oracle,
        contextlib.closing(Workers(setting.threads, environment, host)) as workers,
    ):
        for cell, record in zip(cells, records, strict=True):
            begins(cell)
            if record["status"] != "ok" or record["time_median_ns"] is None:
                yield _without(cell, record, setting.threads, "a cell has a profile only where it agrees and is timed")
            elif cell.device != "cpu":
                yield _on_gpu(cell, record, setting, workers, oracle)
            else:
                yield _profiled(cell, record, setting, workers, oracle)


def vendors_tools(repro: str) -> str:
    """Return why a cell on a GPU has no profile here, and the commands of the vendor's tools that make one."""
    check = repro.replace("attnbench run", "attnbench check", 1)
    compute = f"ncu --target-processes all --clock-control none --launch-skip 3 --launch-count 2 --set full {check}"
    systems = f"nsys profile --trace cuda,nvtx,osrt {check}"
    return f"only calls on a CPU are sampled; for a GPU (untested): {compute}; or the time line: {systems}"


def _without(cell: Cell, record: Mapping[str, Any], threads: int, reason: str) -> CellProfile:
    """Return a cell without a profile."""
    return CellProfile(
        **_about(cell, record, threads), stage=record["stage"] or "profile", reason=record["reason"] or reason
    )


def _about(cell: Cell, record: Mapping[str, Any], threads: int) -> Mapping[str, Any]:
    """Return the fields of a profile that are known before it is taken."""
    return {
        "implementation": cell.found.name,
        "case": cell.case.to_dict(),
        "case_id": cell.case.case_id,
        "label": cell.case.label(),
        "device": cell.device,
        "threads": threads,
        "status": record["status"],
        "median_ns": record["time_median_ns"],
        "low_ns": record["time_ci_low_ns"],
        "high_ns": record["time_ci_high_ns"],
    }


def _on_gpu(
    cell: Cell, record: Mapping[str, Any], setting: ProfileSetting, workers: Workers, oracle: Oracle
) -> CellProfile:
    """Return the kernels of a cell on a GPU, and the commands of the vendor's tools. Untested on a GPU."""
    found = _without(cell, record, setting.threads, vendors_tools(record["repro"]))
    taken: list[KernelsOfCall] = []
    stage = Stage(
        name="profile", requests=(TraceKernels,), run=lambda run: taken.append(run.ask(TraceKernels()).kernels)
    )  # fmt: skip
    try:
        run = CellRun(workers.get(cell.found, cell.device), oracle, cell.case, cell.device, _LIMITS)
    except ExecutorError as error:
        return found.model_copy(update={"notes": (f"its kernels were not traced: {error.reason}",)})
    values = without_pauses(drive(run, (prepare.STAGE, call.STAGE, stage)))
    workers.done(cell.found, cell.device, keep=False)
    if not taken:
        return found.model_copy(update={"notes": (f"its kernels were not traced: {values.get('reason')}",)})
    return found.model_copy(update={"kernels": taken[0]})


def _profiled(
    cell: Cell, record: Mapping[str, Any], setting: ProfileSetting, workers: Workers, oracle: Oracle
) -> CellProfile:
    about = _about(cell, record, setting.threads)
    taken: list[Profiled] = []

    def take(run: CellRun) -> None:
        asked = TakeProfile(
            threads=setting.threads, wall_ns=setting.wall_ns, samples=setting.samples, assembly=setting.assembly
        )
        taken.append(run.ask(asked))

    stage = Stage(name="profile", requests=(TakeProfile,), run=take)
    stages: list[Marker] = []
    began_ns = time.monotonic_ns()
    try:
        with _noted("load", stages):
            worker = workers.get(cell.found, cell.device)
    except ExecutorError as error:
        return CellProfile(**{**about, "status": error.status}, stage="load", reason=error.reason)
    run = CellRun(worker, oracle, cell.case, cell.device, _LIMITS, stores_scores=cell.found.stores_scores)
    values = without_pauses(drive(run, [_timed(one, stages) for one in (prepare.STAGE, call.STAGE, stage)]))
    workers.done(cell.found, cell.device, keep=False)
    if not taken:
        return CellProfile(
            **{**about, "status": values["status"]}, stage=values.get("stage"), reason=values.get("reason")
        )
    if taken[0].refused:
        return CellProfile(**about, stage="profile", reason=taken[0].refused)
    lowest = floors(cell.case, setting.tflops, setting.exponentials_per_ns)
    found = completed(about, taken[0], lowest, record["memory_peak_bytes"])
    return on_one_time_line(found, taken[0].begins_ns - began_ns, stages, began_ns)


@contextlib.contextmanager
def _noted(name: str, stages: list[Marker]) -> Iterator[None]:
    """Append the start and the end of a stage to ``stages``."""
    start_ns = time.monotonic_ns()
    yield
    stages.append(Marker(name, start_ns, time.monotonic_ns()))


def _timed(stage: Stage, stages: list[Marker]) -> Stage:
    """Return a stage that also notes when it ran."""

    def run(cell: CellRun) -> Iterator[None]:
        with _noted(stage.name, stages):
            yield from stage.run(cell) or ()

    return dataclasses.replace(stage, run=run)


def on_one_time_line(cell: CellProfile, later_ns: int, stages: Sequence[Marker], began_ns: int) -> CellProfile:
    """Append the worker's time line to that of the stages; both use the machine's monotonic clock.

    The worker's time line begins ``later_ns`` after the first stage, which began at ``began_ns``.
    """
    spans = [Span(lane="stages", name=one.name, start_ns=one.start_ns - began_ns, end_ns=one.end_ns - began_ns)
             for one in stages]  # fmt: skip
    spans += [
        one.model_copy(update={"start_ns": one.start_ns + later_ns, "end_ns": one.end_ns + later_ns})
        for one in cell.timeline
    ]
    memory = cell.memory
    if memory is not None and memory.began_ns is not None:
        memory = memory.model_copy(update={"began_ns": memory.began_ns + later_ns})
    return cell.model_copy(update={"timeline": tuple(spans), "memory": memory})


def completed(
    about: Mapping[str, Any], taken: Profiled, lowest: Mapping[Phase, Floor], peak_bytes: int | None
) -> CellProfile:
    """Return the profile of a cell: sampled shares, scaled to the time of a call without a sampler."""
    factor = about["median_ns"] / (taken.mean_ns - taken.kept_waiting_ns)
    parts = {name: getattr(taken, name) for name in Sampled.model_fields} | {
        "functions": _scaled(taken.functions, factor),
        "lines": tuple(
            one.model_copy(update={"ns": factor * one.ns, "below_ns": factor * one.below_ns}) for one in taken.lines
        ),
        "instructions": _scaled(taken.instructions, factor),
        "stacks": _scaled(taken.stacks, factor),
        "memory": taken.memory and _beside_the_runs(taken.memory, peak_bytes),
    }
    return CellProfile(
        **about,
        **parts,
        slowdown=taken.sampled_ns / taken.plain_ns,
        notes=tuple(_notes(taken, about["median_ns"])),
        phases=tuple(sorted(_phases(taken, factor, lowest), key=lambda one: -one.ns)),
    )


def _beside_the_runs(memory: MemoryOfCall, peak_bytes: int | None) -> MemoryOfCall:
    """Add the run's peak to a footprint, and a note if the two differ."""
    note = memory.note
    if note is None and peak_bytes is not None and abs(memory.peak_bytes - peak_bytes) > _MEMORY_BYTES:
        note = f"the run's peak is {peak_bytes:,} bytes: compiled with lines, or called anew, it takes another amount"
    said = memory.blocks_note
    if memory.blocks is not None and peak_bytes is not None:
        said = _beside_the_blocks(memory.blocks.bytes, peak_bytes)
    return memory.model_copy(update={"exact_peak_bytes": peak_bytes, "note": note, "blocks_note": said})


def _beside_the_blocks(asked_bytes: int, peak_bytes: int) -> str:
    """Say how well blocks and the exact peak agree, and why they may not."""
    apart = asked_bytes - peak_bytes
    if abs(apart) <= _MEMORY_BYTES:
        return f"the blocks and the exact peak agree within {abs(apart):,} bytes"
    why = "pages that nobody wrote to, or that the process had before"
    if apart < 0:
        why = "memory that comes from no allocator of the C library, or that it held back"
    return f"the blocks are {abs(apart):,} bytes {'more' if apart > 0 else 'less'} than the exact peak: {why}"


def _scaled(parts: tuple[P, ...], factor: float) -> tuple[P, ...]:
    return tuple(part.model_copy(update={"ns": factor * part.ns}) for part in parts)


def _phases(taken: Profiled, factor: float, lowest: Mapping[Phase, Floor]) -> Iterator[PhaseTime]:
    """Yield the time of each phase with the interval of its share (Wilson 1927)."""
    told = next((phase for phase in (Phase.QK, Phase.PV, Phase.GRADIENTS) if taken.by_phase.get(phase)), None)
    beside = {Phase.WAITING: taken.waiting_ns, Phase.MEMORY: taken.system_ns}
    for phase in Phase:
        count, more = taken.by_phase.get(phase, 0), beside.get(phase, 0.0)
        ns = factor * (count * taken.sample_ns + more)
        if ns < _LEAST_NS:
            continue
        low, high = binomtest(count, taken.samples).proportion_ci(method="wilson") if taken.samples else (0.0, 0.0)
        whole = taken.samples * taken.sample_ns
        floor = lowest.get(phase) if phase is not Phase.PRODUCTS or told is None else None
        yield PhaseTime(
            phase=phase,
            ns=ns,
            low_ns=factor * (low * whole + more),
            high_ns=factor * (high * whole + more),
            floor_ns=floor.ns if floor else None,
            floor_from=floor.sentence if floor else None,
        )


def _notes(taken: Profiled, median_ns: float) -> Iterator[str]:
    if not taken.has_kernel:
        yield (
            "the system lets this process sample its own code only: time in the kernel (page faults, system calls) is "
            "that of the system's clocks, all of it under allocation and page faults"
        )
    if (together := taken.by_phase.get(Phase.PRODUCTS, 0)) > _DISTURBED * taken.samples:
        yield f"of {together / taken.samples:.0%} of the samples nothing tells which matrix product they are in"
    if taken.kept_waiting_ns > _DISTURBED * taken.mean_ns:
        share = taken.kept_waiting_ns / taken.mean_ns
        yield f"other processes kept its threads from running for {share:.0%} of the time, which is in no phase"
    if abs(taken.plain_ns / median_ns - 1) > _DISTURBED:
        yield (
            f"in the process of the profile a call takes {taken.plain_ns / median_ns:.2f} times as long as in the run, "
            "without the sampler: phases are scaled to the run's median"
        )
    if taken.not_installed:
        yield (
            f"without {' and '.join(taken.not_installed)} lines of compiled code are missing, or phases are not told "
            "(pip install 'attnbench[profile]')"
        )
    if taken.no_memory:
        yield f"its memory was not followed: {taken.no_memory}"
    if not taken.samples:
        yield "no sample fell into a call: calls sleep, or are too few"
