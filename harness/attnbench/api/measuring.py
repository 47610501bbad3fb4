"""Makes a run file from a request: plan, measure the machine, run, and report the outcome."""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import itertools
import time
import uuid
from typing import TYPE_CHECKING, Literal

from attnbench.api.results import FinishedRun, RunInterrupted
from attnbench.errors import UsageError
from attnbench.store.folder import RUN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from attnbench.api.progress import Log, Progress
    from attnbench.registry.found import Found
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.run import Outcome
    from attnbench.store.reader import RunFile
    from attnbench.store.record import Fields
    from attnbench.store.writer import RunWriter

    OnEngine = Callable[[Request, RunFile, Sequence[Cell], Sequence[Cell], RunWriter, Log], FinishedRun]

Peaks = Literal["auto", "quick", "full", "none"]


def begin(
    request: Request, log: Log, command: Sequence[str], *, peaks: Peaks, out: Path | None, force: bool
) -> FinishedRun:
    """Plan, open the run file, measure the machine, and run.

    Args:
        request: the run to make.
        log: where messages go.
        command: the words of an equivalent command, for the header.
        peaks: how to measure the machine's peaks.
        out: path of the run file; default a new one among the runs.
        force: replace an existing run file.

    Raises:
        UsageError: nothing is left to run, or the run file cannot be created.
        RunInterrupted: after Ctrl-C.
    """
    from attnbench.machine import caches
    from attnbench.machine.device_lock import devices_to_ourselves
    from attnbench.machine.interference import busy
    from attnbench.runner.planning.header import measure_header
    from attnbench.runner.planning.request import found_of, setting_of
    from attnbench.runner.run import execute
    from attnbench.runner.time_accounting import Shares

    cells, quick_peaks = planned(request, found_of(request, log.says), log, peaks=peaks, out=out, force=force)
    run_id = uuid.uuid4().hex[:12]
    with devices_to_ourselves(_used(cells), log.says, alone=set(request.stages) != {"agreement"}):
        began = time.monotonic()
        header = measure_header(request, cells, run_id, quick_peaks, command, measured_now=peaks != "auto")
        if request.sampling_s:
            for sentence in busy(header["environment"]):
                log.says(sentence)
        with refusals(out):
            writer = created(out, request.scenario.name, header, force=force)
        for said in (writer.unlocked, caches.warning()):
            if said:
                log.says(said)
        looked_s = time.monotonic() - began
        shares = Shares(machine_s=looked_s, wall_s=looked_s)
        setting = setting_of(request, header)
        return finish(request, cells, functools.partial(execute, cells, setting, writer, shares=shares), writer, log)


def planned(
    request: Request, found: Sequence[Found], log: Log, *, peaks: Peaks, out: Path | None, force: bool
) -> tuple[list[Cell], bool | None]:
    """Plan a new run whose file can be created.

    Returns:
        The cells, and whether peaks are measured quickly, or ``None`` if they are not measured.

    Raises:
        UsageError: nothing is left to run, or the run file cannot be created.
    """
    from attnbench.runner.planning.plan import estimate_s
    from attnbench.runner.planning.request import plan_request, warnings_of
    from attnbench.store.writer import RunWriter

    cells = plan_request(request, found)
    for warning in warnings_of(request):
        log.says(warning)
    with refusals(out):
        RunWriter.require_room(out or default_path(request.scenario.name), force=force)
    if peaks == "auto":
        return cells, sum(estimate_s(cell, request.sampling_s) for cell in cells) < 600
    return cells, None if peaks == "none" else peaks == "quick"


def resume(path: Path, log: Log, on_engine: OnEngine) -> FinishedRun:
    """Run the cells of a run file's plan that have no record yet.

    Args:
        path: the run file.
        log: where messages go.
        on_engine: resumes a run that the machines of an engine began.

    Raises:
        UsageError: the file cannot be read or written, or another process writes it.
        RunInterrupted: after Ctrl-C.
    """
    from attnbench.machine.device_lock import devices_to_ourselves
    from attnbench.runner.planning.request import found_of, plan_request, request_from, setting_of
    from attnbench.runner.planning.resume import require_same
    from attnbench.runner.run import Outcome, execute
    from attnbench.runner.time_accounting import Shares
    from attnbench.store.reader import read_run
    from attnbench.store.writer import RunWriter

    try:
        writer = RunWriter.resume(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read and written: {error.strerror}") from error
    with contextlib.closing(writer):
        run_file = read_run(path)
        request = request_from(run_file.header.request)
        done = {(r["case_id"], r["implementation"], r["device"], r["replicate"]) for r in run_file.records}
        every = plan_request(request, found_of(request, log.says))
        cells = [cell for cell in every if cell.key not in done]
        for warning in [*run_file.warnings, *([writer.unlocked] if writer.unlocked else [])]:
            log.says(warning)
        if not cells and run_file.is_complete:
            log.says(f"{path} is complete: nothing to resume")
            outcome = _with_earlier(Outcome(counts=collections.Counter(), shares=Shares()), run_file.records)
            return FinishedRun(path, exit_code=outcome.exit_code, messages=tuple(log.messages))
        if request.on is not None:
            return on_engine(request, run_file, every, cells, writer, log)
        require_same(path, run_file.header, every, cells)
        with devices_to_ourselves(_used(cells), log.says, alone=set(request.stages) != {"agreement"}):
            setting = setting_of(request, run_file.header.model_dump(mode="json"))
            run = functools.partial(execute, cells, setting, writer, shares=Shares())
            return finish(request, cells, run, writer, log, run_file.records)


def finish(
    request: Request,
    cells: Sequence[Cell],
    measure: Callable[[Progress], Outcome],
    writer: RunWriter,
    log: Log,
    earlier: Sequence[Fields] = (),
) -> FinishedRun:
    """Measure cells into an open run file with a progress bar, and report the outcome.

    The exit code takes ``earlier`` records into account.

    Raises:
        RunInterrupted: after Ctrl-C.
    """
    from attnbench.api.progress import Progress
    from attnbench.store.reader import read_run

    with Progress(cells, request.sampling_s, log) as progress:
        outcome = measure(progress)
    writer.close()
    for line in progress.disagreements.summary():
        log.writes(line)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    log.writes(counts or "no cell was run")
    if log.verbose:
        log.writes(outcome.shares.sentence())
    if request.possible:
        from attnbench.runner.planning.covering import coverage_lines

        for line in coverage_lines(request, read_run(writer.path).records, verbose=log.verbose):
            log.writes(line)
    if outcome.broken:
        log.says(f"{outcome.broken}; attnbench run --resume {writer.path}")
    if outcome.unsaved:
        log.says(
            f"{writer.problem}; {outcome.unsaved} lines are not stored; make room, then\n"
            f"attnbench run --resume {writer.path}"
        )
    if outcome.interrupted:
        log.writes(f"interrupted; to go on: attnbench run --resume {writer.path}")
    exit_code = _with_earlier(outcome, earlier).exit_code
    finished = FinishedRun(writer.path, exit_code=exit_code, messages=tuple(log.messages))
    if outcome.interrupted:
        raise RunInterrupted(finished)
    return finished


def _with_earlier(outcome: Outcome, records: Sequence[Fields]) -> Outcome:
    """Add the records of earlier sittings to a run's outcome."""
    for record in records:
        outcome.saw(record["status"], record["implementation"])
    return outcome


def _used(cells: Sequence[Cell]) -> list[str]:
    """Return the devices on which something will run."""
    return sorted({cell.device for cell in cells if cell.preset_outcome is None})


def default_path(name: str) -> Path:
    """Return an unused file name."""
    stem = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{name}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
    return next(path for name in names if not (path := RUN_FOLDER / f"{name}.jsonl").exists())


def created(out: Path | None, name: str, header: dict[str, object], *, force: bool) -> RunWriter:
    """Create the run file with its header."""
    from attnbench.store.writer import RunFileBusyError, RunWriter

    while out is None:
        with contextlib.suppress(FileExistsError, RunFileBusyError):  # another run has just taken the name
            return RunWriter.create(default_path(name), header)
    return RunWriter.create(out, header, force=force)


@contextlib.contextmanager
def refusals(out: Path | None) -> Iterator[None]:
    """Turn errors from creating a run file into a sentence."""
    path = out or RUN_FOLDER
    try:
        yield
    except FileExistsError:
        raise UsageError(f"{path} exists already: another --out, --resume {path}, or --force") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from error
