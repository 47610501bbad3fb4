"""Extra times on an accelerator: of a replayed graph, by the host's clock, and of the kernels alone."""

from __future__ import annotations

import functools
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage
from attnbench.untrusted.exceptions import message_of

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker
_ns = functools.partial(metric, unit="ns", join="median", only_ok=True, better="lower")


class ExtraTimeMetrics(Metrics, stage="time"):
    """Times in addition to the one that is compared."""

    time_graph_ns: float | None = _ns(
        "graph", "CUDA: one call of a graph over rotated inputs, without launches and gaps."
    )
    time_wall_ns: float | None = _ns("wall", "CUDA: host's time from the call to the end of its work.")
    time_kernel_ns: float | None = _ns("kernels", "CUDA: kernels of one call added up, by the profiler.")
    graph_refused: str | None = metric("no graph", "Why there is no time_graph_ns.", unit="text")


class ExtraTimes(ExtraTimeMetrics, AnswerMessage):
    """Times in addition to the one that is compared."""

    measuring_ns: int


class MeasureExtraTimes(WorkerRequest[ExtraTimes]):
    """On an accelerator, measure the wall time, and the time in a graph or the reason why there is none."""

    def serve(self, worker: Worker) -> ExtraTimes:
        from attnbench.worker.cuda.extra_timings import rotated_graph_ns, wall_ns

        session = worker.session
        call, device, operands = session.prepared(), session.accelerator, session.placed()
        assert device is not None
        start = perf_counter_ns()
        waited_ns = wall_ns(call.run, device, call.set_up)
        replayed_ns: float | None = None
        refused: str | None = None
        if session.case.mode == "backward":
            refused = "a backward pass needs the forward pass before it, which would be in the graph"
        else:
            try:
                replayed_ns = rotated_graph_ns(call, device, operands)
            except Exception as error:  # noqa: BLE001 - whatever keeps CUDA from recording the call is the reason
                refused = f"{type(error).__name__}: {message_of(error).strip().partition(chr(10))[0][:200]}"
            finally:
                call.rebind(operands)
        spent_ns = perf_counter_ns() - start
        return ExtraTimes(
            time_wall_ns=waited_ns, time_graph_ns=replayed_ns, graph_refused=refused, measuring_ns=spent_ns
        )


def run(cell: CellRun) -> None:
    """Measure."""
    answer = cell.ask(MeasureExtraTimes())
    cell.spent.memory += answer.measuring_ns
    cell.keep(answer)


STAGE = Stage(
    name="time",
    requests=(MeasureExtraTimes,),
    run=run,
    is_wanted=lambda cell: cell.limits.timed and cell.device != "cpu",
)
