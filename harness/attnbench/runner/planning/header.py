"""The header of a run file: the request and the machine."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from attnbench.registry.found import to_json
from attnbench.store.record import SCHEMA_VERSION
from attnbench.transport.host import LOCAL_HOST
from attnbench.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.transport.host import Host


def measure_header(
    request: Request,
    cells: Sequence[Cell],
    run_id: str,
    quick_peaks: bool | None,
    command: Sequence[str],
    host: Host = LOCAL_HOST,
    *,
    measured_now: bool = True,
) -> dict[str, Any]:
    """Describe the machine, measure its peaks, and return the header.

    ``quick_peaks`` is whether peaks are measured quickly, or ``None`` if they are not measured. Unless
    ``measured_now``, a CPU's peaks may be those of the last day.
    """
    from attnbench.machine.environment import machine_key

    here = host.environment()
    running = {cell.device for cell in cells if cell.preset_outcome is None}
    peaks = {}
    if quick_peaks is not None:
        key = machine_key(here)
        peaks = {
            device: _peaks(host, key, device, request.threads, quick=quick_peaks, measured_now=measured_now)
            for device in sorted(running)
        }
    return {
        "kind": "header",
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "attnbench_version": VERSION,
        "command": ["attnbench", *command],
        "request": request.to_dict(),
        "scenario": request.scenario.to_dict(),
        "environment": here,
        "libraries": host.libraries(request.threads),
        "peaks": peaks,
        "machine_key": machine_key(here),
        "seed": request.seed,
        "devices": list(request.devices),
        "threads": request.threads,
        "replicates": request.replicates,
        "implementations": {cell.found.name: to_json(cell.found) for cell in cells},
        "cells_planned": len(cells),
    }


def _peaks(
    host: Host, machine_key: str, device: str, threads: int, *, quick: bool, measured_now: bool
) -> Mapping[str, Any]:
    """Measure or recall a device's peaks. A GPU's depend on its current power and heat, so each run measures them."""
    from attnbench.machine.pace.remembered_peaks import remember, remembered_peaks

    known = None if measured_now or device != "cpu" else remembered_peaks(machine_key, device, threads, quick=quick)
    if known is not None:
        return known
    peaks = host.peaks(device, threads, quick=quick)
    remember(machine_key, peaks, quick=quick)
    return peaks
