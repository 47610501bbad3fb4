"""The changes from one run to a later run of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.cells import cells_of
from attnbench.views.compare import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult

MOST_LINES = 8


def changes(before: RunFile, after: RunFile) -> list[str]:
    """Return a line for each cell whose status changed, or whose time differs by more than noise."""
    earlier = {cell.key: cell for cell in cells_of(before)}
    found = [
        f"{cell.implementation}, {cell.case.label()}: {said}"
        for cell in cells_of(after)
        if cell.key in earlier
        for said in _change(earlier[cell.key], cell)
    ]
    if not found:
        return ["nothing changed beyond noise"]
    left_out = len(found) - MOST_LINES
    return [*found[:MOST_LINES], *([f"and {left_out} more"] if left_out > 0 else [])]


def _change(before: CellResult, now: CellResult) -> Iterator[str]:
    if now.status != before.status:
        yield f"{now.status}, was {before.status}"
    elif before.timing is not None and now.timing is not None:
        pair = Pair(reference=before, subject=now)
        if pair.difference != "within noise":
            gain = pair.speedup.value
            yield f"{gain:.3g} times as fast" if gain > 1 else f"{1 / gain:.3g} times as slow"
