"""A device held for a run: it measures whole cases, as a local run does."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from typing import TYPE_CHECKING

from attnbench.cases.cost import flops
from attnbench.fleet.luggage import folder_of_this_process
from attnbench.fleet.software import software_of
from attnbench.machine.device_lock import devices_to_ourselves
from attnbench.machine.environment import environment
from attnbench.machine.hardware.pinning import default_threads
from attnbench.runner.oracle import Oracle
from attnbench.runner.planning.header import measure_header
from attnbench.runner.planning.request import found_of, plan_request, request_from, setting_of
from attnbench.runner.run import Run, measure_together
from attnbench.runner.time_accounting import Shares
from attnbench.runner.turns import take_turns
from attnbench.stages.stage import Company
from attnbench.store.header import Header
from attnbench.untrusted.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psutil

    from attnbench.fleet.luggage import Luggage
    from attnbench.fleet.software import Software
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.run import Setting
    from attnbench.store.record import Record


@dataclasses.dataclass(frozen=True)
class Introduction:
    """A holder's first answer, before it has its device."""

    software: Software
    cells: frozenset[tuple[str, str]]
    """(case_id, implementation) of all cells that it can be asked for."""


@dataclasses.dataclass(frozen=True)
class Held:
    """A holder's answer once it has its device."""

    header: Header
    """Header of a run of this machine alone."""
    aa_ratio: float | None
    """Time of one cell over that of the same cell in another process, measured alternately."""
    engine_cores: float | None
    """Processor cores that the engine's processes used meanwhile."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """The records of a case from a holder."""

    records: list[Record]
    waited_s: float
    """Seconds that the holder was idle since the previous case; 0 before the first."""


class Holder:
    """Holds a device, from its creation until :meth:`end`.

    Args:
        device: ``cpu`` or ``cuda``.
        request: the request as JSON, in the form that a header keeps, which other versions can read.
        luggage: the request's plug-ins.
    """

    def __init__(self, device: str, request: str, luggage: Luggage) -> None:
        self._closing = contextlib.ExitStack()
        folder = self._closing.enter_context(folder_of_this_process())
        asked = request_from(parse_json(request))
        self._device = device
        self._request = dataclasses.replace(
            asked,
            plugins=luggage.put_down(folder),
            threads=default_threads() if asked.all_cores else asked.threads,
            devices=(device,),
        )
        self._found = found_of(self._request)
        self._cells = plan_request(self._request, self._found)
        self._lines = _Lines()
        self._replicate: int | None = None
        self._ended_at: float | None = None

    def introduce(self) -> Introduction:
        """Return this machine's software, and the cells that it plans for the request."""
        keys = frozenset((cell.case.case_id, cell.found.name) for cell in self._cells)
        return Introduction(software_of(environment(), self._found), keys)

    def hold(self, quick_peaks: bool | None) -> Held:
        """Wait for the device's lock, describe the machine, start the oracle, and measure one cell twice.

        Args:
            quick_peaks: whether to measure peaks only briefly; ``None`` for no peaks.
        """
        alone = set(self._request.stages) != {"agreement"}
        self._closing.enter_context(devices_to_ourselves([self._device], self._lines.says, alone=alone))
        run_id = uuid.uuid4().hex[:12]
        header = measure_header(self._request, self._cells, run_id, quick_peaks, [], measured_now=False)
        setting = setting_of(self._request, header)
        self._run = self._closing.enter_context(contextlib.closing(Run(setting, self._lines, Shares())))
        self._oracle = self._closing.enter_context(contextlib.closing(Oracle(setting.threads, setting.environment)))
        self._oracle.wait()
        ratio, cores = self._same_twice(setting) if setting.limits.timed else (None, None)
        return Held(Header.model_validate(header), ratio, cores)

    def measure(self, case_id: str, implementations: Sequence[str], replicate: int) -> Measured:
        """Measure cells of a case in one replicate; each replicate gets fresh workers."""
        waited_s = 0.0 if self._ended_at is None else time.monotonic() - self._ended_at
        of_replicate = [cell for cell in self._cells if cell.replicate == replicate]
        if replicate != self._replicate:
            self._run.workers.begin(of_replicate)
            self._replicate = replicate
        wanted = [one for one in of_replicate if one.case.case_id == case_id and one.found.name in implementations]
        measure_together(self._run, wanted, self._oracle, self._lines)
        self._ended_at = time.monotonic()
        return Measured(self._lines.taken(), waited_s)

    def end(self) -> dict[str, float]:
        """Release everything, and return the seconds that this holder spent on each kind of work."""
        shares = self._run.end().shares.to_dict()
        self._closing.close()
        return shares

    def engine_processes(self) -> list[psutil.Process]:
        """Return the engine's processes on this machine; none without an engine."""
        return []

    def _same_twice(self, setting: Setting) -> tuple[float | None, float | None]:
        """Time the smallest cell against itself in two workers; return the ratio, and the cores used by the engine."""
        running = [cell for cell in self._cells if cell.preset_outcome is None and cell.replicate == 0]
        if not running:
            return None, None
        baseline = self._request.scenario.baseline
        cell = min(running, key=lambda one: (flops(one.case), one.found.name != baseline, one.found.name))
        engine = self.engine_processes()
        before, began = _processor_s(engine), time.monotonic()
        with contextlib.ExitStack() as closing:
            runs = [closing.enter_context(contextlib.closing(Run(setting, _Lines(), Shares()))) for _ in range(2)]
            company = Company(is_here=True)
            sides = [(side, run.steps(cell, self._oracle, company)) for side, run in enumerate(runs)]
            records: dict[int, Record] = dict(take_turns(sides))
        cores = (_processor_s(engine) - before) / (time.monotonic() - began) if engine else None
        one, other = (records[side].time_median_ns for side in (0, 1))
        return (other / one if one and other else None), cores


class _Lines:
    """Replaces the run file and the terminal: keeps records until they are taken."""

    def __init__(self) -> None:
        self.pending: Sequence[bytes] = ()
        self.problem: str | None = None
        self._records: list[Record] = []

    def append(self, line: Mapping[str, object]) -> None:
        """Ignore the line: there is no file."""

    def taken(self) -> list[Record]:
        """Return the records since the last call."""
        found, self._records = self._records, []
        return found

    def close(self) -> None:
        """Do nothing: there is no file."""

    def begins(self, cell: Cell) -> None:
        """Do nothing: the driver shows the case."""

    def enters(self, cell: Cell, stage: str) -> None:
        """Do nothing: the driver shows the case."""

    def ended(self, cell: Cell, record: Record) -> None:
        self._records.append(record)

    def says(self, sentence: str) -> None:
        """Ignore the message: the driver reports which holders it waits for."""


def _processor_s(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time of processes in seconds; those that have ended count as zero."""
    import psutil

    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            taken = process.cpu_times()
            total += taken.user + taken.system
    return total
