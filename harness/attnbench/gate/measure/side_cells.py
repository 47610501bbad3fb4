"""Cells of both sides for a profile, measured once, alternating, by the gate's own rounds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.gate.measure.rounds import SIDES, GateError, run_rounds, side_header
from attnbench.registry.found import from_json
from attnbench.runner.planning.plan import PlanError
from attnbench.runner.planning.request import plan_request, request_from
from attnbench.transport.host import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.gate.measure.rounds import GateObserver, SideName
    from attnbench.gate.measure.side import Side
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.store.reader import RunFile
    from attnbench.transport.host import Host


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideCells:
    """One side's cells and the run that measured them."""

    name: SideName
    cells: list[Cell]
    run: RunFile
    host: Host
    """Starts workers that see the side's code."""


def measure_both(
    sides: dict[SideName, Side], request: Request, folder: Path, observer: GateObserver, most_cells: int
) -> list[SideCells]:
    """Measure the cells of both sides in one round.

    Args:
        sides: prepared sides.
        request: what to measure; each side's plug-ins are added.
        folder: where the run files and other files of the rounds go.
        observer: notified when the round begins and ends.
        most_cells: largest number of cells of both sides together.

    Raises:
        GateError: if both sides are the same code, one cannot be measured, or there are too many cells.
    """
    if len({side.identity for side in sides.values()}) == 1:
        raise GateError("both sides are the same code: there is nothing to compare")
    planned = 0
    for side in sides.values():
        asked = dataclasses.replace(request, plugins=(*request.plugins, *side.plugins), cells=())
        planned += min(side_header(side, asked, folder).cells_planned, len(request.cells) or most_cells + 1)
    if planned > most_cells:
        raise GateError(f"{planned} cells are too many to profile, {most_cells} the most: choose with -i and -a")
    (measured,) = run_rounds("profile", 1, sides, request, folder, observer, cells=request.cells)
    return [_side_cells(name, sides[name], measured.of(name)) for name in SIDES]


def _side_cells(name: SideName, side: Side, run: RunFile) -> SideCells:
    host = LocalHost(side.python, side.folder)
    found = [from_json(one) for one in run.header.implementations.values()]
    try:
        cells = plan_request(request_from(run.header.request), found, host)
    except PlanError:  # this side has none of them
        cells = []
    return SideCells(name=name, cells=cells, run=run, host=host)
