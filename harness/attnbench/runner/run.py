"""A run: takes cells through workers, and writes their records to a run file."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import functools
import itertools
import time
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.cases.inputs.sampling import group_pairs
from attnbench.machine.pace.heartbeat import Heartbeats, heartbeats_of
from attnbench.machine.pace.peaks import higher_of
from attnbench.machine.pace.remembered_peaks import remember, remembered_peaks
from attnbench.runner.derived_metrics import complete
from attnbench.runner.driver import drive, failed, without_waiting
from attnbench.runner.interrupts import exit_code_of
from attnbench.runner.oracle import Oracle, OracleGoneError
from attnbench.runner.turns import in_company, take_turns
from attnbench.runner.workers import Workers
from attnbench.stages.stage import CellRun, Company
from attnbench.stages.table import STAGES
from attnbench.store.record import FAILED, Record, record_of
from attnbench.transport.executor import ExecutorError
from attnbench.transport.host import LOCAL_HOST, LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.time_accounting import Shares
    from attnbench.stages.stage import CellLimits, Values
    from attnbench.transport.host import Host

_EXPECTED_PAIRS = 2**22
"""Up to this size, an untimed run lets oracles answer in advance; larger cases need the whole machine."""

STOPPED = "it has disagreed already, and --stop-at-first was asked for"
_MOST_DOUBTS = 3
"""The most times that a run measures a device's peaks again."""
_SURPRISING = 130.0
"""In percent of a peak."""


class Lines(Protocol):
    """Stores the lines of a run file."""

    @property
    def pending(self) -> Sequence[bytes]:
        """Lines that are not stored yet."""

    @property
    def problem(self) -> str | None:
        """The reason why not, if there are any."""

    def append(self, line: dict[str, object]) -> None:
        """Store a line."""

    def close(self) -> None:
        """Close the file."""


class RunObserver(Protocol):
    """Receives the progress of a run."""

    def begins(self, cell: Cell) -> None:
        """Report that a cell is about to run."""

    def enters(self, cell: Cell, stage: str) -> None:
        """Report that a cell is about to begin a stage."""

    def ended(self, cell: Cell, record: Record) -> None:
        """Report a cell's record."""

    def says(self, sentence: str) -> None:
        """Show a message to the user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings of a run that do not belong to its cells."""

    run_id: str
    threads: int
    environment: Mapping[str, str]
    """Environment variables of workers and oracle."""
    limits: CellLimits
    peaks: Mapping[str, Mapping[str, Any]]
    """Measured peaks by device."""
    machine_key: str | None = None
    """The key of this machine's stored heartbeats and peaks; ``None`` stores none."""
    host: Host = LOCAL_HOST
    """The machine that workers run on."""
    stop_at_first: bool = False
    """Whether to skip the remaining cells of an implementation that disagrees."""


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """The outcome of a run."""

    counts: collections.Counter[str]
    shares: Shares
    interrupted: int | None = None
    """The exit code of the signal that ended the run early."""
    unsaved: int = 0
    decided: dict[str, bool] = dataclasses.field(default_factory=dict)
    """For each implementation with an ``ok`` or ``undecided`` cell: whether any cell is ``ok``."""
    broken: str | None = None
    """Why the run could not continue, if the harness itself is at fault."""

    def saw(self, status: str, implementation: str) -> None:
        """Count a cell."""
        self.counts[status] += 1
        if status in ("ok", "undecided"):
            self.decided[implementation] = self.decided.get(implementation, False) or status == "ok"

    @property
    def exit_code(self) -> int:
        """The exit code.

        0 ok, 1 disagreement, 3 records could not be stored or the oracle failed, 4 cells broke or gave invalid times, 5
        nothing measured, 6 every verdict on an implementation is undecided, above 128 interrupted.
        """
        if self.interrupted:
            return self.interrupted
        if self.unsaved or self.broken:
            return 3
        if self.counts["wrong"]:
            return 1
        if any(self.counts[status] for status in (*FAILED, "invalid")):
            return 4
        if not all(self.decided.values()):
            return 6
        return 0 if self.counts["ok"] else 5


class Run:
    """A run in progress: its workers, its file, and its outcome so far."""

    def __init__(self, setting: Setting, writer: Lines, shares: Shares) -> None:
        self.setting, self.writer = setting, writer
        self.workers = Workers(setting.threads, setting.environment, setting.host)
        self.outcome = Outcome(counts=collections.Counter(), shares=shares)
        self._began = time.monotonic()
        self._peaks = dict(setting.peaks)
        key = setting.machine_key
        self.heartbeats = Heartbeats(None if key is None else heartbeats_of(key, setting.threads))
        self._doubts: collections.Counter[str] = collections.Counter()
        self._disagreed: set[str] = set()

    def known_outcome(self, cell: Cell) -> tuple[str, str] | None:
        """Return (status, reason) if the cell's outcome is known without running it."""
        stopped = self.setting.stop_at_first and cell.found.name in self._disagreed
        return cell.preset_outcome or (("skipped", STOPPED) if stopped else None)

    def steps(
        self, cell: Cell, oracle: Oracle, company: Company, enters: Callable[[str], object] = lambda stage: None
    ) -> Generator[None, None, Record]:
        """Run a cell, whatever happens to it, and return its record; yields at the pauses of the driver.

        ``enters`` is called with the name of each stage.
        """
        started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        if (outcome := self.known_outcome(cell)) is not None:
            values = failed({}, "plan", *outcome)
        else:
            values, wall_s = yield from without_waiting(self._measure(cell, oracle, company, enters))
            values["wall_s"] = round(wall_s, 6)
        values = self._completed(values, cell)
        return record_of(
            {
                **cell.record_fields(),
                "run_id": self.setting.run_id,
                "threads": self.setting.threads if cell.device == "cpu" else None,
                "started_at": started_at,
                **values,
            }
        )

    def _completed(self, values: Values, cell: Cell) -> Values:
        """Add statistics and roofline metrics; a surprising rate makes the machine's peaks be measured again first."""
        device, setting = cell.device, self.setting
        if values.get("heartbeat_ns"):
            values = {**values, "machine_drift": self.heartbeats.drift}
        completed = complete(dict(values), cell.case, device, self._peaks.get(device))
        while values["status"] == "ok" and self._doubts[device] < _doubts_allowed(completed):
            self._doubts[device] += 1
            again = setting.host.peaks(device, setting.threads, quick=True)
            self._peaks[device] = higher_of(self._peaks[device], again)
            if (key := setting.machine_key) is not None:
                # Not the run's own peaks: those of a resumed run are from its file, which may contain anything.
                known = remembered_peaks(key, device, setting.threads, quick=True)
                remember(key, higher_of(again, known or {}), quick=True)
            completed = complete(dict(values), cell.case, device, self._peaks[device])
        return completed

    def _measure(
        self, cell: Cell, oracle: Oracle, company: Company, enters: Callable[[str], object] = lambda stage: None
    ) -> Generator[None, None, Values]:
        try:
            enters("load")
            worker = self.workers.get(cell.found, cell.device)
        except ExecutorError as error:
            self.workers.done(cell.found, cell.device, keep=False)
            return failed({}, "load", error.status, error.reason)
        untimed = _why_untimed(cell)
        limits = self.setting.limits
        if untimed is not None:
            limits = dataclasses.replace(limits, measures=frozenset())
        run = CellRun(
            worker,
            oracle,
            cell.case,
            cell.device,
            limits,
            stores_scores=cell.found.stores_scores,
            unknown=oracle.unknown_inputs(cell.case),
            company=company,
            ranks=cell.found.ranks,
        )
        values = yield from drive(run, STAGES, enters)
        if untimed is not None and values["status"] == "ok" and self.setting.limits.timed:
            values["reason"] = untimed
        # A wrong number does no lasting harm to a worker; misconduct, which another stage finds, may.
        is_sound = values["status"] in ("ok", "undecided", "unsupported") or (
            values["status"] == "wrong" and values["stage"] == "agreement" and not self.setting.limits.timed
        )
        keep = is_sound and not run.worker_died
        self.workers.done(cell.found, cell.device, keep=keep)
        self.outcome.shares.add(run.spent)
        return values

    def keep(self, record: Record) -> None:
        """Append a record to the file."""
        self.outcome.saw(record.status, record.implementation)
        if record.status == "wrong":
            self._disagreed.add(record.implementation)
        self.writer.append({"kind": "record", **record.model_dump(mode="json")})

    def close(self) -> None:
        """End the workers."""
        self.workers.close()

    def end(self) -> Outcome:
        """End the workers and the file, whose last line is the run's outcome."""
        self.close()
        self.heartbeats.keep()
        shares = self.outcome.shares
        shares.imports_s += self.workers.imports_s
        shares.wall_s += time.monotonic() - self._began
        self.writer.append(
            {
                "kind": "footer",
                "wall_s": round(shares.wall_s, 3),
                "shares": shares.to_dict(),
                "counts": dict(self.outcome.counts),
                "interrupted": self.outcome.interrupted is not None,
            }
        )
        self.outcome.unsaved = len(self.writer.pending)
        return self.outcome


def execute(cells: Sequence[Cell], setting: Setting, writer: Lines, observer: RunObserver, shares: Shares) -> Outcome:
    """Run the cells in order, and append a record for each.

    Ctrl-C, SIGTERM and SIGHUP end the run once its records are stored; no measurement is lost.
    """
    run = Run(setting, writer, shares)
    # If nothing is timed, a second oracle computes the answers of the next case at the same time.
    count = 1 if setting.limits.timed or len({cell.case for cell in cells}) < 2 else 2
    oracles = [Oracle(max(1, setting.threads // count), setting.environment) for _ in range(count)]
    try:
        with contextlib.ExitStack() as closing:
            closing.enter_context(contextlib.closing(run))
            for oracle in oracles:
                closing.enter_context(contextlib.closing(oracle))
                oracle.start()
            for replicate in sorted({cell.replicate for cell in cells}):
                order = [cell for cell in cells if cell.replicate == replicate]
                run.workers.begin(order)
                for same, oracle in _with_oracles(run, order, oracles):
                    measure_together(run, same, oracle, observer)
    except KeyboardInterrupt as interrupt:
        run.outcome.interrupted = exit_code_of(interrupt)
    except OracleGoneError as gone:
        run.outcome.broken = str(gone)
    return run.end()


def measure_together(run: Run, cells: Sequence[Cell], oracle: Oracle, observer: RunObserver) -> None:
    """Measure cells of one case and append their records; timed cells take turns."""
    limits = run.setting.limits

    def steps(cell: Cell, company: Company) -> Generator[None, None, Record]:
        observer.begins(cell)
        return (yield from run.steps(cell, oracle, company, functools.partial(observer.enters, cell)))

    groups = in_company(cells, limits.memory_bytes) if limits.timed else ([cell] for cell in cells)
    for group in groups:
        company = Company(is_here=isinstance(run.setting.host, LocalHost))
        for cell, record in take_turns([(cell, steps(cell, company)) for cell in group]):
            run.keep(record)
            observer.ended(cell, record)
            if run.writer.problem:
                observer.says(f"{run.writer.problem}; {len(run.writer.pending)} records wait in memory")
        run.heartbeats.add(company.heartbeat_ns)


def _with_oracles(
    run: Run, cells: Sequence[Cell], oracles: Sequence[Oracle]
) -> Iterator[tuple[Sequence[Cell], Oracle]]:
    """Yield the cells of each case with the oracle that judges them, while another oracle prepares the next case."""
    cases = [list(same) for _, same in itertools.groupby(cells, key=lambda cell: cell.case)]
    for oracle in oracles:
        oracle.wait()
    for number, same in enumerate(cases):
        if len(oracles) > 1:
            if number == 0:
                _expect(run, same, oracles[0])
            if number + 1 < len(cases):
                _expect(run, cases[number + 1], oracles[(number + 1) % len(oracles)])
        yield same, oracles[number % len(oracles)]


def _expect(run: Run, cells: Sequence[Cell], oracle: Oracle) -> None:
    """Let an oracle compute the answers for a small case's cells that will run."""
    case = cells[0].case
    if group_pairs(case) * case.batch * case.heads_kv <= _EXPECTED_PAIRS:
        for stores_scores in sorted({cell.found.stores_scores for cell in cells if run.known_outcome(cell) is None}):
            oracle.expect(case, stores_scores=stores_scores)


def _doubts_allowed(completed: Values) -> int:
    """Return how often the machine's peaks may be measured again for a cell."""
    if completed["status"] == "invalid":
        return _MOST_DOUBTS
    # A good kernel may be faster than a library's product. This much faster, the peak was probably measured at a slow
    # moment.
    return 1 if (completed.get("percent_of_peak") or 0.0) > _SURPRISING else 0


def _why_untimed(cell: Cell) -> str | None:
    """Return why a cell is checked but neither timed nor its memory measured, or ``None``."""
    if not (cell.case.batch and cell.case.seqlen_q and cell.case.seqlen_kv):
        return "agreement only: without queries or keys there is nothing to time"
    if cell.case.dropout is not None:
        return "agreement only: samples have other inputs, and nobody would know what they dropped"
    said = cell.found.declaration
    if said is not None and cell.device in said.agreement_only:
        return f"agreement only: what runs on {cell.device} here is not what runs in earnest"
    if said is not None and cell.device != "cpu" and said.framework != "torch":
        return f"agreement only: on {cell.device} torch's stream is timed, and {said.framework} has streams of its own"
    return None
