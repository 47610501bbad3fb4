"""Prepare: load an implementation in a worker, prepare a cell's call, and clean up at the cell's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage, CaseField, Done, Status

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.worker.worker import Worker


class PrepareMetrics(Metrics, stage="prepare"):
    """The cost of preparation."""

    prepare_ns: int | None = metric(
        "prepare", "Masks, plans, compilation ahead of the first call.", unit="ns", join="median", better="lower"
    )


class Load(WorkerRequest[Done]):
    """Import the implementation and its framework."""

    fails_as: ClassVar[Status] = "unavailable"

    kind: Literal["module", "file", "entry_point"]
    target: str
    implementation: str
    threads: int

    def serve(self, worker: Worker) -> Done:
        from attnbench.machine.warm_up_libraries import warm_up_torch
        from attnbench.registry.discover import implementations_of
        from attnbench.registry.found import Origin
        from attnbench.registry.importing import load_module

        origin = Origin(self.kind, self.target)
        module = load_module(origin)
        named = [one for one in implementations_of(module) if one.declaration.name == self.implementation]
        if not named:
            raise LookupError(f"{origin} does not define {self.implementation!r}")
        worker.implementation = named[0]
        if worker.implementation.declaration.framework == "torch":
            warm_up_torch(self.threads)
        worker.loaded()
        return Done()


class Refusals(AnswerMessage):
    """Whether each case is refused."""

    refused: tuple[bool, ...]
    never: bool
    """Whether the implementation has no hook that could refuse a declared case."""


class AskRefusals(WorkerRequest[Refusals]):
    """Ask which cases the implementation refuses, to leave them out of a plan. If the hook raises, the cell fails."""

    cases: tuple[CaseField, ...]
    device: str

    def serve(self, worker: Worker) -> Refusals:
        from attnbench.worker.call import refusal, refuses_nothing

        implementation = worker.implementation
        assert implementation is not None  # loaded before anything else is asked

        def refused(case: Case) -> bool:
            try:
                return refusal(implementation, case, self.device) is not None
            except Exception:  # noqa: BLE001 - the hook is somebody else's
                return False

        return Refusals(refused=tuple(map(refused, self.cases)), never=refuses_nothing(implementation))


class Prepared(PrepareMetrics, AnswerMessage):
    """The cell can be called."""


class Prepare(WorkerRequest[Prepared]):
    """Begin a cell: check that the case is supported, create its tensors, and prepare; only the last is timed."""

    case: CaseField
    device: str
    memory_bytes: int | None = None
    """Limit of the bytes that the cell may allocate."""

    def serve(self, worker: Worker) -> Prepared:
        from attnbench.worker.call import bind, refusal
        from attnbench.worker.session import UnsupportedError
        from attnbench.worker.tensors import place

        session = worker.begin(self.case, self.device, self.memory_bytes)
        implementation, said = session.implementation, session.implementation.declaration
        refused = refusal(implementation, self.case, self.device)
        if refused:
            raise UnsupportedError(refused)
        if session.accelerator is None and self.device == "cuda" and said.framework == "torch":
            from attnbench.worker.cuda.torch_device import TorchDevice

            session.accelerator = TorchDevice()
        session.operands = place(self.case, said, self.device)
        session.wait()
        if worker.bind is not None:
            session.call = worker.bind(implementation, self.case, self.device, session.operands, self.memory_bytes)
        else:
            session.call = bind(implementation, self.case, session.operands)
        session.wait()
        return Prepared(prepare_ns=session.call.prepare_ns)


class Close(WorkerRequest[Done]):
    """End the cell."""

    def serve(self, worker: Worker) -> Done:
        worker.end()
        return Done()


def run(cell: CellRun) -> None:
    """Prepare the cell."""
    answer = cell.ask(Prepare(case=cell.case, device=cell.device, memory_bytes=cell.limits.memory_bytes))
    cell.keep(answer)
    cell.spent.first_calls += answer.prepare_ns or 0


STAGE = Stage(name="prepare", requests=(Load, AskRefusals, Prepare, Close), run=run)
