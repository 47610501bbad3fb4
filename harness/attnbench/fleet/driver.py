"""Driver of a run on an engine's machines: it hands cases to holders, and alone appends their records to the run."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import time
import uuid
from typing import TYPE_CHECKING, Any

from attnbench.fleet.engine import FleetError, HolderLostError, RemoteHolder
from attnbench.fleet.queue import Work, WorkQueue
from attnbench.fleet.software import differences
from attnbench.registry.found import to_json
from attnbench.runner.interrupts import exit_code_of
from attnbench.runner.run import Outcome
from attnbench.runner.time_accounting import Shares
from attnbench.store.header import Part
from attnbench.store.record import record_of
from attnbench.units import count, number, times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.fleet.engine import Engine, Place
    from attnbench.fleet.holder import Held, Introduction, Measured
    from attnbench.fleet.luggage import Luggage
    from attnbench.fleet.software import Software
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.run import Lines, RunObserver
    from attnbench.store.header import Header
    from attnbench.store.record import Record

_WAIT_S = 1.0
_LONG_S = 10.0
_DIFFERS = 0.02
"""A larger relative difference of a cell from itself is reported."""


@dataclasses.dataclass
class _Party:
    """The driver's view of a holder."""

    remote: RemoteHolder
    call: object | None
    """The pending call; ``None`` while the holder is idle."""
    held: Held | None = None
    work: Work | None = None

    @property
    def name(self) -> str:
        return self.remote.place.name

    @property
    def kind(self) -> tuple[str, str] | None:
        """Device and machine key; ``None`` until it has its device."""
        return None if self.held is None else (self.remote.place.device, self.held.header.machine_key)


class Fleet:
    """The holders of a run.

    Args:
        engine: starts and calls the holders.
        places: where to start one.
        request: the request as JSON, in the form that a header keeps.
        luggage: the request's plug-ins.
        say: shows a message to the user.
    """

    def __init__(
        self,
        engine: Engine,
        places: Sequence[Place],
        request: str,
        luggage: Luggage,
        say: Callable[[str], object],
    ) -> None:
        self._engine, self._say = engine, say
        remotes = [engine.start(place, request, luggage) for place in places]
        self._parties = [_Party(remote, remote.call("introduce")) for remote in remotes]
        self._shares = Shares()
        self._waited_s = 0.0

    def require_same(self, cells: Sequence[Cell], known: Mapping[str, Software]) -> None:
        """Raise unless all machines have this run's software and plan.

        Args:
            cells: the plan.
            known: other software that theirs must equal, by the name that messages give it.

        Raises:
            FleetError: if a machine differs, or none answers.
        """
        found: dict[str, Software] = dict(known)
        for party, answer in self._answers():
            introduction: Introduction = answer
            found[party.name] = introduction.software
            device = party.remote.place.device
            expected = {(cell.case.case_id, cell.found.name) for cell in cells if cell.device == device}
            if others := len(expected - introduction.cells):
                raise FleetError(
                    f"{party.name} does not know {count(others, 'cell')} of this run: is it of another code?"
                )
        if not self._parties:
            raise FleetError("no machine has answered")
        if unlike := differences(found):
            raise FleetError(f"the machines are not alike: {'; '.join(unlike)}. Install the same everywhere")

    def hold(self, quick_peaks: bool | None) -> Header:
        """Ask all holders to take their devices, and return the header of the first that has.

        Raises:
            FleetError: if all holders are lost.
        """
        for party in self._parties:
            party.call = party.remote.call("hold", quick_peaks)
        while True:
            self._settle(self._ready())
            if held := next((party.held for party in self._parties if party.held), None):
                return held.header
            if not self._parties:
                raise FleetError("all machines were lost while they began")

    def run(
        self, cells: Sequence[Cell], writer: Lines, observer: RunObserver, measured: dict[tuple[str, str], str]
    ) -> Outcome:
        """Have the cells measured, and append their records as they arrive.

        Args:
            cells: what to measure.
            writer: of the run file, whose header is written.
            observer: notified of progress.
            measured: by (case_id, device), the machine key of the case's existing records.
        """
        outcome = Outcome(counts=collections.Counter(), shares=self._shares)
        began = time.monotonic()
        queue = WorkQueue(cells, measured)
        try:
            for party in self._parties:
                if party.held:
                    self._is_ready(party, writer)
            self._measure(queue, _Appending(writer, observer, outcome))
            if len(queue):
                outcome.broken = f"no machine is left for {count(len(queue), 'case')}"
            self._end()
        except KeyboardInterrupt as interrupt:
            outcome.interrupted = exit_code_of(interrupt)
        writer.append(
            {
                "kind": "footer",
                "wall_s": round(time.monotonic() - began, 3),
                "shares": {**self._shares.to_dict(), "engine_s": round(self._waited_s, 3)},
                "counts": dict(outcome.counts),
                "interrupted": outcome.interrupted is not None,
            }
        )
        outcome.unsaved = len(writer.pending)
        return outcome

    @property
    def waited_s(self) -> float:
        """Seconds that holders spent idle between two cases."""
        return self._waited_s

    def _measure(self, queue: WorkQueue, appending: _Appending) -> None:
        while True:
            if all(party.held for party in self._parties):  # one still waiting for its device may be of any kind
                for orphan in queue.orphans([one.kind for one in self._parties if one.kind]):
                    appending.give_up(*orphan)
            for party in self._parties:
                if party.call is None and party.kind and (work := queue.take(*party.kind)):
                    names = [cell.found.name for cell in work.cells]
                    party.work = work
                    party.call = party.remote.call(
                        "measure", work.cells[0].case.case_id, names, work.cells[0].replicate
                    )
                    appending.begins(work)
            if all(party.call is None for party in self._parties):
                return
            beginning = [party for party in self._parties if party.held is None]
            for party, answer in self._ready():
                if isinstance(answer, HolderLostError):
                    self._lose(party, answer, queue, appending.observer)
                elif party in beginning:
                    party.held = answer
                    self._is_ready(party, appending.writer)
                else:
                    self._keep(party, answer, appending)

    def _keep(self, party: _Party, measured: Measured, appending: _Appending) -> None:
        assert party.work is not None
        self._waited_s += measured.waited_s
        appending.keep(party.work, measured.records)
        party.work = None

    def _lose(self, party: _Party, why: HolderLostError, queue: WorkQueue, observer: RunObserver) -> None:
        self._parties.remove(party)
        observer.says(f"{party.name} is lost: {why}")
        if party.work is not None:
            assert party.held is not None
            queue.give_back(party.work, party.held.header.run_id, f"{party.name}: {why}")

    def _is_ready(self, party: _Party, writer: Lines) -> None:
        held = party.held
        assert held is not None
        header = held.header
        part = Part(
            run_id=header.run_id,
            created_at=header.created_at,
            environment=header.environment,
            libraries=header.libraries,
            peaks=header.peaks,
            machine_key=header.machine_key,
            threads=header.threads,
            place=party.name,
            aa_ratio=held.aa_ratio,
            engine_cores=held.engine_cores,
        )
        writer.append({"kind": "part", **part.model_dump(mode="json")})
        said = [f"{party.name} is ready"]
        if held.aa_ratio is not None:
            said.append(f"one cell takes {times(held.aa_ratio)} of its own time in another process")
        if held.engine_cores is not None:
            said.append(f"{self._engine.name} keeps {number(held.engine_cores, 2)} cores busy")
        self._say("; ".join(said))
        if held.aa_ratio is not None and abs(held.aa_ratio - 1) > _DIFFERS:
            off = f"{100 * abs(held.aa_ratio - 1):.1f} %"
            self._say(f"{party.name} is disturbed: differences of {off} between implementations may mean nothing there")

    def _end(self) -> None:
        for party in self._parties:
            party.call = party.remote.call("end")
        for _, answer in self._answers():
            for name in (field.name for field in dataclasses.fields(Shares)):
                setattr(self._shares, name, getattr(self._shares, name) + answer[name])

    def _answers(self) -> list[tuple[_Party, Any]]:
        """Wait for all pending calls, and return the answers of the holders that are not lost."""
        found: list[tuple[_Party, Any]] = []
        began, has_said = time.monotonic(), False
        while any(party.call is not None for party in self._parties):
            ready = self._ready()
            self._drop_lost(ready)
            found += [one for one in ready if not isinstance(one[1], HolderLostError)]
            if not has_said and time.monotonic() - began > _LONG_S:
                waiting = [party.name for party in self._parties if party.call is not None]
                self._say(f"waiting for {', '.join(waiting)}: begins, or is held by another run")
                has_said = True
        return found

    def _settle(self, ready: Sequence[tuple[_Party, Any]]) -> None:
        for party, answer in ready:
            if not isinstance(answer, HolderLostError):
                party.held = answer
        self._drop_lost(ready)

    def _drop_lost(self, ready: Sequence[tuple[_Party, Any]]) -> None:
        for party, answer in ready:
            if isinstance(answer, HolderLostError):
                self._parties.remove(party)
                self._say(f"{party.name} is lost: {answer}")

    def _ready(self) -> list[tuple[_Party, Any]]:
        """Return the parties whose call is over, each with its answer, or the error if the holder is lost."""
        asked = [party for party in self._parties if party.call is not None]
        done = self._engine.answered([party.call for party in asked], _WAIT_S)
        found: list[tuple[_Party, Any]] = []
        for party in asked:
            if party.call in done:
                try:
                    found.append((party, self._engine.answer(party.call)))
                except HolderLostError as lost:
                    found.append((party, lost))
                party.call = None
        return found


class _Appending:
    """Appends the records of a run, and notifies the observer."""

    def __init__(self, writer: Lines, observer: RunObserver, outcome: Outcome) -> None:
        self.writer, self.observer, self._outcome = writer, observer, outcome

    def begins(self, work: Work) -> None:
        for cell in work.cells:
            self.observer.begins(cell)

    def keep(self, work: Work, records: Sequence[Record]) -> None:
        """Append the records of a holder, with the command that repeats each cell on this machine."""
        cells = {cell.found.name: cell for cell in work.cells}
        for record in records:
            cell = cells[record.implementation]
            self._append(cell, record.model_copy(update={"repro": cell.repro}))

    def give_up(self, work: Work, reason: str, run_id: str) -> None:
        """Append records for cells that no remaining machine can measure."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        for cell in work.cells:
            ended = {"status": "crashed", "stage": "start", "reason": reason}
            self._append(cell, record_of({**cell.record_fields(), "run_id": run_id, "started_at": at, **ended}))

    def _append(self, cell: Cell, record: Record) -> None:
        self._outcome.saw(record.status, record.implementation)
        self.writer.append({"kind": "record", **record.model_dump(mode="json")})
        self.observer.ended(cell, record)
        if self.writer.problem:
            self.observer.says(f"{self.writer.problem}; {len(self.writer.pending)} records wait in memory")


def run_header(first: Header, request: Request, command: Sequence[str], cells: Sequence[Cell]) -> Header:
    """Return the header of the whole run: the first machine's, with this command's request."""
    about = {
        "run_id": uuid.uuid4().hex[:12],
        "command": ["attnbench", *command],
        "request": request.to_dict(),
        "devices": list(request.devices),
        "implementations": {cell.found.name: to_json(cell.found) for cell in cells},
        "cells_planned": len(cells),
    }
    return first.model_copy(update=about)
