"""A run: cells through workers into a run file."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.runner.cell import CellLimits, CellRun
from attnbench.runner.derived_metrics import complete
from attnbench.runner.interrupts import exit_code_of
from attnbench.runner.oracle import Oracle, OracleGoneError
from attnbench.runner.workers import LoadFailedError, Workers
from attnbench.store.record import FAILED, Record

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from attnbench.runner.plan import Cell
    from attnbench.runner.time_accounting import Shares
    from attnbench.store.writer import RunWriter


class RunObserver(Protocol):
    """Who is told how a run goes."""

    def begins(self, cell: Cell) -> None:
        """A cell is about to run."""

    def ended(self, cell: Cell, record: Record) -> None:
        """A cell has its record."""

    def says(self, sentence: str) -> None:
        """Something that a person should know."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run needs to know beside its cells."""

    run_id: str
    threads: int
    environment: Mapping[str, str]
    """Environment variables of workers and oracle."""
    limits: CellLimits
    peaks: Mapping[str, Mapping[str, Any]]
    """Measured peaks by device."""


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """How a run went."""

    counts: collections.Counter[str]
    shares: Shares
    interrupted: int | None = None
    """The exit code that tells of what ended the run early."""
    unsaved: int = 0
    broken: str | None = None
    """Why the run could not go on, where the harness itself is at fault."""

    @property
    def exit_code(self) -> int:
        """0 ok, 1 disagreement, 3 not all could be stored, 4 cells broke, 5 nothing measured, above 128 interrupted."""
        if self.interrupted:
            return self.interrupted
        if self.unsaved or self.broken:
            return 3
        if self.counts["wrong"]:
            return 1
        if any(self.counts[status] for status in FAILED):
            return 4
        return 0 if self.counts["ok"] else 5


def execute(
    cells: Sequence[Cell], setting: Setting, writer: RunWriter, observer: RunObserver, shares: Shares
) -> Outcome:
    """Run the cells in their order and append a record for each.

    Ctrl-C, SIGTERM and SIGHUP end the run after what is stored; nothing that was measured is lost.
    """
    outcome = Outcome(counts=collections.Counter(), shares=shares)
    started_at = time.monotonic()
    workers = Workers(setting.threads, setting.environment)
    oracle = Oracle(setting.threads, setting.environment)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="attnbench-", ignore_cleanup_errors=True) as folder,
            contextlib.closing(oracle),
            contextlib.closing(workers),
        ):
            oracle.start()
            for replicate in sorted({cell.replicate for cell in cells}):
                order = [cell for cell in cells if cell.replicate == replicate]
                workers.begin(order)
                oracle.wait()
                for cell in order:
                    observer.begins(cell)
                    record = run_cell(cell, setting, workers, oracle, Path(folder), outcome.shares)
                    outcome.counts[record.status] += 1
                    writer.append({"kind": "record", **record.model_dump(mode="json")})
                    observer.ended(cell, record)
                    if writer.problem:
                        observer.says(f"{writer.problem}; {len(writer.pending)} records wait in memory")
    except KeyboardInterrupt as interrupt:
        outcome.interrupted = exit_code_of(interrupt)
    except OracleGoneError as gone:
        outcome.broken = str(gone)
    outcome.shares.imports_s += workers.imports_s
    outcome.shares.wall_s += time.monotonic() - started_at
    writer.append(footer(outcome))
    outcome.unsaved = len(writer.pending)
    return outcome


def run_cell(cell: Cell, setting: Setting, workers: Workers, oracle: Oracle, folder: Path, shares: Shares) -> Record:
    """One cell to its record, whatever happens to it."""
    steps = cell_steps(cell, setting, workers, oracle, folder, shares)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            record: Record = end.value
            return record


def cell_steps(
    cell: Cell, setting: Setting, workers: Workers, oracle: Oracle, folder: Path, shares: Shares
) -> Generator[None, None, Record]:
    """The same, with the pauses of :meth:`attnbench.runner.cell.CellRun.steps`."""
    began = time.monotonic()
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    if cell.preset_outcome is not None:
        status, reason = cell.preset_outcome
        fields: dict[str, Any] = {"status": status, "stage": "plan", "reason": reason}
    else:
        fields = yield from _measure(cell, setting, workers, oracle, folder, shares)
    fields = complete(fields, cell.case, cell.device, setting.peaks.get(cell.device))
    if cell.preset_outcome is None:
        fields["wall_s"] = round(time.monotonic() - began, 6)
    return Record.model_validate(
        {
            "run_id": setting.run_id,
            "record_id": uuid.uuid4().hex,
            "case_id": cell.case.case_id,
            "implementation": cell.found.name,
            "implementation_version": cell.found.version,
            "source_hash": cell.found.source_hash,
            "replicate": cell.replicate,
            "repro": cell.repro,
            "layout": cell.found.declaration.layout if cell.found.declaration else None,
            "device": cell.device,
            "threads": setting.threads if cell.device == "cpu" else None,
            "cell_tags": cell.tags,
            "started_at": started_at,
            **cell.case.to_dict(),
            **fields,
        }
    )


def _measure(
    cell: Cell, setting: Setting, workers: Workers, oracle: Oracle, folder: Path, shares: Shares
) -> Generator[None, None, dict[str, Any]]:
    try:
        worker = workers.get(cell.found, cell.device)
    except LoadFailedError as failed:
        workers.done(cell.found, cell.device, keep=False)
        return {"status": failed.status, "stage": "load", "reason": failed.reason}
    untimed = _why_untimed(cell)
    limits = setting.limits
    if untimed is not None:
        limits = dataclasses.replace(limits, timed=False, measure_memory=False)
    run = CellRun(worker, oracle, cell.case, cell.device, limits, folder)
    fields = yield from run.steps()
    if untimed is not None and fields["status"] == "ok" and setting.limits.timed:
        fields["reason"] = untimed
    workers.done(cell.found, cell.device, keep=fields["status"] in ("ok", "unsupported") and not run.worker_died)
    shares.add(run.spent)
    return fields


def _why_untimed(cell: Cell) -> str | None:
    """Why a cell is checked but neither timed nor its memory measured, or ``None``."""
    said = cell.found.declaration
    if said is not None and cell.device in said.agreement_only:
        return f"agreement only: what runs on {cell.device} here is not what runs in earnest"
    if said is not None and cell.device != "cpu" and said.framework != "torch":
        return f"agreement only: on {cell.device} torch's stream is timed, and {said.framework} has streams of its own"
    return None


def footer(outcome: Outcome) -> dict[str, Any]:
    """The last line of a run file."""
    return {
        "kind": "footer",
        "wall_s": round(outcome.shares.wall_s, 3),
        "shares": outcome.shares.to_dict(),
        "counts": dict(outcome.counts),
        "interrupted": outcome.interrupted is not None,
    }
