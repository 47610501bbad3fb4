"""A round: both sides at once, each in fresh processes, alternating cell by cell and visit by visit.

Most disturbances of a machine outlast a visit, so they affect both sides alike and cancel in the ratio.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import uuid
from typing import TYPE_CHECKING

from attnbench.runner.planning.plan import PlanError
from attnbench.runner.planning.request import plan_request, setting_of
from attnbench.runner.run import Run
from attnbench.runner.time_accounting import Shares
from attnbench.runner.turns import take_turns
from attnbench.stages.stage import Company
from attnbench.store.writer import RunWriter
from attnbench.transport.host import LocalHost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from attnbench.gate.measure.side import Side
    from attnbench.registry.found import Found
    from attnbench.runner.oracle import Oracle
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.run import Setting
    from attnbench.store.header import Header

VISITS = 6
"""Number of visits over which a cell's samples are spread; the sides alternate."""
MIN_WARMUP_NS, MAX_WARMUP_CALLS = 10_000_000, 20
"""Less than in a run: the other side has kept the processor busy, and the first visit warms up the rest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Party:
    """One side of a pair: its request, its header and implementations, and the path of its run file."""

    side: Side
    request: Request
    header: Header
    found: Sequence[Found]
    path: Path


def _run_of(party: Party) -> tuple[Run, list[Cell]]:
    """Write one side's header, and return its run and its cells."""
    host = LocalHost(party.side.python, party.side.folder)
    try:
        cells = plan_request(party.request, party.found, host)
    except PlanError:  # this side has none of the cells to confirm
        cells = []
    now = {
        "run_id": uuid.uuid4().hex[:12],
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "request": party.request.to_dict(),
        "environment": {**party.header.environment, "load_average": list(os.getloadavg())},
        "cells_planned": len(cells),
    }
    header = party.header.model_copy(update=now).model_dump(mode="json", exclude={"parts"})
    writer = RunWriter.create(party.path, header, force=True)
    return Run(_in_visits(setting_of(party.request, header, host)), writer, Shares()), cells


def run_pair(first: Party, second: Party, oracle: Oracle) -> None:
    """Measure the cells of both sides, each on both at once; ``first`` begins with the first cell.

    Raises:
        OSError: if a run file cannot be written.
        OracleGoneError: if the oracle cannot be started.
    """
    with contextlib.ExitStack() as stack:
        runs, cells = [], []
        for party in (first, second):
            run, its_cells = _run_of(party)
            stack.callback(run.writer.close)
            stack.callback(run.close)
            runs.append(run)
            cells.append(its_cells)
        for run, its_cells in zip(runs, cells, strict=True):
            run.workers.begin(its_cells)
        oracle.wait()
        for number, pair in enumerate(_together(*cells)):
            company = Company()
            parties = [
                (run, run.steps(cell, oracle, company))
                for run, cell in zip(runs, pair, strict=True)
                if cell is not None
            ]
            for run, record in take_turns(parties[::-1] if number % 2 else parties):
                run.keep(record)
        for run in runs:
            run.end()
            if run.writer.problem:
                raise OSError(run.writer.problem)


def _together(first: Sequence[Cell], second: Sequence[Cell]) -> Iterator[tuple[Cell | None, Cell | None]]:
    """Yield the cells of both sides in pairs, in the order of the first, then those that only the second has."""
    others = {cell.key: cell for cell in second}
    for cell in first:
        yield cell, others.pop(cell.key, None)
    for cell in others.values():
        yield None, cell


def _in_visits(setting: Setting) -> Setting:
    limits = dataclasses.replace(
        setting.limits, visits=VISITS, warmup_ns=MIN_WARMUP_NS, warmup_calls=MAX_WARMUP_CALLS
    )  # fmt: skip
    return dataclasses.replace(setting, limits=limits)
