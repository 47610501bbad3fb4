"""``attnbench run --on ray``: make a request's run file with measurements from the machines of a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from typing import TYPE_CHECKING

from attnbench.api.measuring import created, finish, planned, refusals
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.api.measuring import Peaks
    from attnbench.api.progress import Log, Progress
    from attnbench.api.results import FinishedRun
    from attnbench.fleet.driver import Fleet
    from attnbench.fleet.engine import Engine
    from attnbench.fleet.software import Software
    from attnbench.registry.found import Found
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.run import Outcome
    from attnbench.store.reader import RunFile
    from attnbench.store.writer import RunWriter


def begin_on(
    request: Request, log: Log, command: Sequence[str], *, peaks: Peaks, out: Path | None, force: bool
) -> FinishedRun:
    """Run a request like :func:`attnbench.api.measuring.begin`, but on the machines of ``request.on``.

    Raises:
        UsageError: nothing is left to run, the run file cannot be created, no machine offers a device of the
            request, or their software differs.
        RunInterrupted: after Ctrl-C.
    """
    from attnbench.fleet.driver import run_header
    from attnbench.fleet.ray_engine import RayEngine
    from attnbench.runner.planning.request import found_of

    assert request.on is not None
    found = found_of(request, log.says)
    with contextlib.closing(RayEngine(request.on)) as engine:
        cells, quick_peaks = planned(request, found, log, peaks=peaks, out=out, force=force)
        fleet = _fleet(engine, request, found, cells, log, {})
        first = fleet.hold(quick_peaks)
        header = run_header(first, request, command, cells).model_dump(mode="json", exclude={"parts"})
        with refusals(out), contextlib.closing(created(out, request.scenario.name, header, force=force)) as writer:
            return finish(request, cells, functools.partial(_measured, fleet, cells, writer, {}, log), writer, log)


def resume_on(
    request: Request,
    run_file: RunFile,
    every: Sequence[Cell],
    cells: Sequence[Cell],
    writer: RunWriter,
    log: Log,
    address: str | None = None,
) -> FinishedRun:
    """Run the cells that have no record yet on the machines of the engine.

    The rest of a case is measured by the kind of machine that began it.

    Raises:
        UsageError: see :func:`begin_on`; also if the software has changed since the run began.
        RunInterrupted: after Ctrl-C.
    """
    from attnbench.fleet.ray_engine import RayEngine
    from attnbench.fleet.software import software_of_header

    header = run_file.header
    found = list({cell.found.name: cell.found for cell in every}.values())
    measured = {
        (record["case_id"], record["device"]): header.machine_keys.get(record["run_id"], header.machine_key)
        for record in run_file.records
    }
    with contextlib.closing(RayEngine(address or str(request.on))) as engine:
        fleet = _fleet(engine, request, found, cells or every, log, {run_file.path: software_of_header(header)})
        fleet.hold(quick_peaks=True)
        run = functools.partial(_measured, fleet, cells, writer, measured, log)
        return finish(request, cells, run, writer, log, run_file.records)


def _fleet(
    engine: Engine,
    request: Request,
    found: Sequence[Found],
    cells: Sequence[Cell],
    log: Log,
    known: Mapping[str, Software],
) -> Fleet:
    """Return holders of all devices of the cells, after checking that their software equals this process's."""
    from attnbench.fleet.driver import Fleet
    from attnbench.fleet.luggage import packed
    from attnbench.fleet.software import software_of

    wanted = {cell.device for cell in cells}
    places = [place for place in engine.places() if place.device in wanted]
    if missing := sorted(wanted - {place.device for place in places}):
        raise UsageError(f"no node offers {' and '.join(missing)}: leave it out with --device")
    fleet = Fleet(engine, places, json.dumps(request.to_dict()), packed(request.plugins, found), log.says)
    fleet.require_same(cells, {"this machine": software_of({}, found), **known})
    return fleet


def _measured(
    fleet: Fleet,
    cells: Sequence[Cell],
    writer: RunWriter,
    measured: dict[tuple[str, str], str],
    log: Log,
    progress: Progress,
) -> Outcome:
    outcome = fleet.run(cells, writer, progress, measured)
    if log.verbose and cells:
        log.says(f"between cases, machines waited {1e3 * fleet.waited_s / len(cells):.1f} ms a cell for the engine")
    return outcome


def with_engine(request: Request, on: str, *, devices_are_given: bool) -> Request:
    """Return the request for an engine's machines; its devices are the scenario's, unless they are given."""
    devices = request.devices if devices_are_given else tuple(request.scenario.devices)
    return dataclasses.replace(request, on=on, devices=devices)
