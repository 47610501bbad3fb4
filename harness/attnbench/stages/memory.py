"""Memory: the highest footprint of one call above the footprint before it."""

from __future__ import annotations

import functools
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker
_bytes = functools.partial(metric, unit="bytes", join="median", only_ok=True)


class MemoryMetrics(Metrics, stage="memory"):
    """The memory of one call; its inputs are not counted."""

    memory_peak_bytes: int | None = _bytes(
        "peak memory", "Highest footprint of one call above what was there.", better="lower"
    )
    memory_output_bytes: int | None = _bytes("output", "Bytes of what the call returns.")
    memory_workspace_bytes: int | None = _bytes("workspace", "Peak less output.", better="lower")
    memory_held_bytes: int | None = _bytes(
        "held",
        "What is still held after the calls, inputs and results apart: pools, caches, plans, compiled code.",
        better="lower",
    )
    memory_reserved_bytes: int | None = _bytes(
        "reserved", "CUDA: highest that torch's allocator took for a call.", better="lower"
    )
    memory_device_bytes: int | None = _bytes(
        "device memory",
        "CUDA: what the device had less after a call; shows what is allocated outside torch.",
        better="lower",
    )
    memory_method: str | None = metric("method", "How memory was measured.", unit="text", only_ok=True)
    memory_resolution_bytes: int | None = metric(
        "resolution", "What the same method reads for an empty call.", unit="bytes", join="max", only_ok=True
    )


class Measured(MemoryMetrics, AnswerMessage):
    """The memory of one call, or the reason why it was not measured."""

    refused: str | None = None
    """Why memory was not measured."""
    measuring_ns: int = 0


class MeasureMemory(WorkerRequest[Measured]):
    """Make a call that is not timed, and measure its memory."""

    def serve(self, worker: Worker) -> Measured:
        from attnbench.worker.dump import nbytes
        from attnbench.worker.memory import weighing

        session = worker.session
        refusal = weighing.unsupported() if session.accelerator is None else None
        if refusal:
            return Measured(refused=refusal)
        call = session.prepared()
        output = nbytes(call.returned(session.results[0])) // call.ranks if session.results else None
        session.results = []
        start = perf_counter_ns()
        if session.accelerator is not None:
            from attnbench.worker.cuda.extra_timings import MEMORY_METHOD, memory_of

            found = memory_of(call.run, session.accelerator, call.set_up)
            return Measured(
                memory_peak_bytes=found.peak,
                memory_reserved_bytes=found.reserved,
                memory_device_bytes=found.device,
                memory_resolution_bytes=found.resolution,
                memory_output_bytes=output,
                memory_method=MEMORY_METHOD,
                measuring_ns=perf_counter_ns() - start,
            )
        worker.before_weighing()
        try:
            peak = weighing.peak_of(call.run_weighed, set_up=call.set_up)
        except weighing.UnsettledError as unsettled:
            return Measured(refused=str(unsettled))
        return Measured(
            memory_peak_bytes=max(peak.peak_bytes, call.others_peak_bytes),
            memory_resolution_bytes=peak.resolution_bytes,
            memory_output_bytes=output,
            memory_held_bytes=worker.held_bytes(),
            memory_method=weighing.METHOD,
            measuring_ns=perf_counter_ns() - start,
        )


def run(cell: CellRun) -> None:
    """Measure; if that is impossible the cell's status stays, and its reason says so."""
    answer = cell.ask(MeasureMemory())
    if answer.refused:
        cell.values["reason"] = f"memory was not measured: {answer.refused}"
        return
    cell.spent.memory += answer.measuring_ns
    cell.keep(answer)


STAGE = Stage(
    name="memory", requests=(MeasureMemory,), run=run, is_wanted=lambda cell: "memory" in cell.limits.measures
)
