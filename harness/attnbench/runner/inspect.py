"""Inspects one case: the oracle returns the weights of attention, workers the outputs of implementations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from attnbench.errors import UsageError
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.runner.driver import drive, failed, without_pauses
from attnbench.runner.oracle import Oracle
from attnbench.runner.workers import Workers
from attnbench.stages import call, prepare
from attnbench.stages.agreement import JudgeOutputs, LookInside, OutputVerdict
from attnbench.stages.stage import CellLimits, CellRun, filled
from attnbench.store.repro import repro_command
from attnbench.transport.executor import ExecutorError
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.cases.case import Case
    from attnbench.registry.found import Found
    from attnbench.stages.stage import Values
    from attnbench.transport.message import RequestMessage

INSIDE = "inside.npz"
FACTS = "inspection.json"
_LIMITS = CellLimits(time_s=300.0, memory_bytes=None)
A = TypeVar("A", bound=AnswerMessage)


class InspectError(UsageError):
    """The case cannot be inspected; the message is one sentence."""


class _Inspector:
    """Asks the oracle for the errors of a batch element with each verdict, and keeps the latest verdict."""

    def __init__(self, oracle: Oracle, batch_index: int) -> None:
        self._oracle, self._batch_index = oracle, batch_index
        self.verdict: OutputVerdict | None = None

    def ask(self, request: RequestMessage[A]) -> A:
        judged = isinstance(request, JudgeOutputs)
        answer = self._oracle.ask(request.model_copy(update={"inspect": self._batch_index}) if judged else request)
        if isinstance(answer, OutputVerdict):
            self.verdict = answer
        return answer


def write_inspection(
    case: Case, found: Sequence[Found], folder: Path, *, device: str, batch_index: int, threads: int
) -> None:
    """Write ``inspection.json``, ``inside.npz`` and, for each implementation, ``errors-N.npz`` to the folder.

    Raises:
        InspectError: the oracle refuses the case or dies over it.
    """
    environment = worker_environment(threads)
    oracle, workers = Oracle(threads, environment), Workers(threads, environment)
    try:
        inside = oracle.ask(LookInside(case=case, batch_index=batch_index))
        (folder / INSIDE).write_bytes(inside.frames["inside"])
        said = []
        for number, one in enumerate(found, start=1):
            inspector = _Inspector(oracle, batch_index)
            values = _look_at(case, one, inspector, workers, device)
            entry = {
                "implementation": one.name, "errors": None, "fields": {}, "status": values["status"],
                "reason": values.get("reason"), "repro": repro_command(case, one.name, one.plugin, device),
            }  # fmt: skip
            verdict = inspector.verdict
            if verdict is not None:
                errors = f"errors-{number}.npz"
                (folder / errors).write_bytes(verdict.frames["errors"])
                entry |= {"fields": filled(verdict), "rms": verdict.rms, "cause": verdict.cause, "errors": errors}
                entry["reason"] = verdict.problem or entry["reason"]
            said.append(entry)
    except ExecutorError as error:
        raise InspectError(error.reason) from error
    finally:
        workers.close()
        oracle.close()
    facts = {
        "case": case.to_dict(),
        "label": case.label(),
        "case_id": case.case_id,
        "batch_index": batch_index,
        "device": device,
        "heads": inside.heads,
        "visible": inside.visible,
        "implementations": said,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _look_at(case: Case, found: Found, inspector: _Inspector, workers: Workers, device: str) -> Values:
    """Return the outcome of an implementation on the case."""
    if found.unavailable:
        return failed({}, "plan", "unavailable", found.unavailable)
    try:
        worker = workers.get(found, device)
    except ExecutorError as error:
        return failed({}, "load", error.status, error.reason)
    try:
        cell = CellRun(worker, inspector, case, device, _LIMITS, stores_scores=found.stores_scores)
        return without_pauses(drive(cell, (prepare.STAGE, call.STAGE)))
    finally:
        workers.done(found, device, keep=False)
