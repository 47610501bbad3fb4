"""Looks into one case: the oracle writes what attention does, workers show what implementations make of it."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.machine.pinning import worker_environment
from attnbench.runner.oracle import Oracle, OracleGoneError
from attnbench.runner.repro import repro_command
from attnbench.runner.workers import LoadFailedError, Workers
from attnbench.transport.child import ChildGoneError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.cases.case import Case
    from attnbench.registry.discover import Found

INSIDE = "inside.npz"
FACTS = "inspection.json"
_TIMEOUT_S = 300.0


class InspectError(UsageError):
    """The case cannot be looked into; one sentence."""


def write_inspection(
    case: Case, found: Sequence[Found], folder: Path, *, device: str, batch_index: int, threads: int
) -> None:
    """Write ``inspection.json``, ``inside.npz`` and, for each implementation, ``errors-N.npz`` into the folder.

    Raises:
        InspectError: when the oracle refuses the case or dies over it.
    """
    environment = worker_environment(threads)
    oracle, workers = Oracle(threads, environment), Workers(threads, environment)
    try:
        about = _ask(
            oracle,
            {"do": "inspect", "case": case.to_dict(), "batch_index": batch_index, "path": str(folder / INSIDE)},
        )
        said = []
        for number, one in enumerate(found, start=1):
            path = folder / f"errors-{number}.npz"
            entry = _look_at(case, one, oracle, workers, device=device, batch_index=batch_index, path=path)
            entry["repro"] = repro_command(case, one, device)
            said.append({"implementation": one.name, "errors": path.name if path.exists() else None, **entry})
    finally:
        workers.close()
        oracle.close()
    facts = {
        "case": case.to_dict(),
        "label": case.label(),
        "case_id": case.case_id,
        "batch_index": batch_index,
        "device": device,
        "heads": about["heads"],
        "visible": about["visible"],
        "implementations": said,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _look_at(
    case: Case, found: Found, oracle: Oracle, workers: Workers, *, device: str, batch_index: int, path: Path
) -> dict[str, Any]:
    """What an implementation makes of the case: status, sentence, and the judge's fields."""
    if found.unavailable:
        return {"status": "unavailable", "reason": found.unavailable, "fields": {}}
    about = {"case": case.to_dict(), "repetition": 0, "flip_index": 0}
    try:
        worker = workers.get(found, device)
        with tempfile.TemporaryDirectory() as shown:
            for request in (
                {"do": "prepare", "case": case.to_dict(), "device": device, "memory_bytes": None},
                {"do": "call"},
            ):
                answer = worker.ask(request, _TIMEOUT_S)
                if answer["status"] != "ok":
                    return {"status": answer["status"], "reason": answer["reason"], "fields": {}}
            wanted = _ask(oracle, {"do": "select", **about})
            # Of results that differ, the last one is the farthest from the first.
            last = answer["results"] - 1
            dumped = worker.ask(
                {"do": "dump", "selection": wanted["selection"], "folder": shown, "result": last}, _TIMEOUT_S
            )
            if dumped["status"] != "ok":
                return {"status": dumped["status"], "reason": dumped["reason"], "fields": {}}
            verdict = _ask(
                oracle,
                {
                    "do": "judge",
                    **about,
                    "outputs": dumped["outputs"],
                    "folder": shown,
                    "errors_path": str(path),
                    "batch_index": batch_index,
                },
            )
    except LoadFailedError as failed:
        return {"status": failed.status, "reason": failed.reason, "fields": {}}
    except ChildGoneError as gone:
        return {"status": gone.status, "reason": gone.reason, "fields": {}}
    finally:
        workers.done(found, device, keep=False)
    return {
        "status": "wrong" if verdict["problem"] else "ok",
        "reason": verdict["problem"],
        "cause": verdict["cause"],
        "fields": verdict["fields"],
        "rms": verdict["rms"],
    }


def _ask(oracle: Oracle, request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = oracle.ask(request)
    except OracleGoneError as gone:
        raise InspectError(str(gone)) from gone
    if answer["status"] != "ok":
        raise InspectError(answer["reason"])
    return answer
