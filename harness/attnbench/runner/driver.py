"""The one driver: a cell goes through stages in their order, so that whatever happens is known to be of one of them."""

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
    """Take a cell through those stages that it wants.

    On a CPU, where it is timed, it pauses after the calls that are judged, after the warm-up, and after each visit. The
    pauses are not counted against the cell's time. Each stage is told to ``enters`` before it begins.

    Returns:
        The record's fields for outcome and metrics; always with a ``status``.
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
    """The values that a cell which is not ok keeps: a wrong kernel has no speed."""
    kept = {name: value for name, value in values.items() if name not in METRICS or not METRICS[name].only_ok}
    return {**kept, "status": status, "stage": stage, "reason": reason}


def without_pauses(steps: Generator[None, None, T]) -> T:
    """Go on to the end, and return what is returned there."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def without_waiting(steps: Generator[None, None, T]) -> Generator[None, None, tuple[T, float]]:
    """Go on as ``steps`` do; what they return, and the seconds that they took themselves."""
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
