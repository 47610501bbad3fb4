"""Back end: the kernel or back end that really ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.stages.time.extra_times import ExtraTimeMetrics
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker


class BackendMetrics(Metrics, stage="backend"):
    """The kernel or back end that really ran."""

    backend: str | None = metric("back end", "What really ran: the back end chosen, the kernel's name.", unit="text")


class Told(BackendMetrics, AnswerMessage):
    """The back end."""

    kernels_ns: float | None = None
    """CUDA: total time of the kernels of one call."""


class TellBackend(WorkerRequest[Told]):
    """Ask which back end runs, according to the implementation or the profiler."""

    def serve(self, worker: Worker) -> Told:
        session = worker.session
        hook, call = session.implementation.backend_hook, session.prepared()
        said: str | None = None
        if hook is not None:
            call.set_up()
            said = hook(call.run, call.plan) if session.implementation.backend_takes_plan else hook(call.run)
        if session.accelerator is None:
            return Told(backend=said)
        from attnbench.worker.cuda.extra_timings import kernels

        seen = kernels(call.run, session.accelerator, call.set_up)
        names = list(dict.fromkeys(kernel.name for kernel in seen)) or ["no kernel was seen"]
        told = "; ".join([*([said] if said else []), "kernels: " + ", ".join(names)])
        return Told(backend=told, kernels_ns=sum(kernel.ns for kernel in seen) if seen else None)


def run(cell: CellRun) -> None:
    """Ask for the back end, and keep the answer."""
    answer = cell.ask(TellBackend())
    cell.keep(answer)
    if cell.limits.timed:
        cell.keep(ExtraTimeMetrics(time_kernel_ns=answer.kernels_ns))


STAGE = Stage(name="backend", requests=(TellBackend,), run=run)
