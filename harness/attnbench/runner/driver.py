"""The driver: takes a cell through its stages in order, so that every outcome belongs to a stage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from attnbench.stages.prepare import Close
from attnbench.stages.stage import CellEndedError, CellRun, Values
from attnbench.store.record import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from attnbench.stages.stage import Stage

T = TypeVar("T")


def drive(
    cell: CellRun, stages: Sequence[Stage], enters: Callable[[str], object] = lambda stage: None
) -> Generator[None, None, Values]:
    """Take a cell through the stages that it wants.

    On a CPU, a timed cell yields after the calls that are judged, after the warm-up, and after each visit. Pauses do
    not count as the cell's time. ``enters`` is called with the name of each stage before it begins.

    Returns:
        The record's fields for outcome and metrics, which always include ``status``.
    """
    try:
        for stage in stages:
            if stage.is_wanted(cell):
                cell.stage = stage.name
                enters(stage.name)
                pauses = stage.run(cell)
                if pauses is not None:
                    yield from pauses
    except CellEndedError as end:
        values = failed(cell.values, end.stage, end.status, end.reason)
    else:
        values = {**cell.values, "status": "ok"}
    finally:
        cell.company.leave(cell)
    _close(cell)
    return values


def failed(values: Values, stage: str, status: str, reason: str) -> Values:
    """Return the values of a cell that is not ok, without those that only an ok cell has, such as its speed."""
    kept = {name: value for name, value in values.items() if name not in METRICS or not METRICS[name].only_ok}
    return {**kept, "status": status, "stage": stage, "reason": reason}


def without_pauses(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end, and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def without_waiting(steps: Generator[None, None, T]) -> Generator[None, None, tuple[T, float]]:
    """Yield whenever ``steps`` does, and return its value and the seconds that its own code took."""
    spent = 0.0
    while True:
        began = time.monotonic()
        try:
            next(steps)
        except StopIteration as end:
            return end.value, spent + time.monotonic() - began
        spent += time.monotonic() - began
        yield


def _close(cell: CellRun) -> None:
    if not cell.worker_died:
        try:
            cell.ask(Close())
        except CellEndedError:
            cell.worker_died = True
