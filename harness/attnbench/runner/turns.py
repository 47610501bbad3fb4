"""Lets cells take turns, so that a disturbance of the machine affects all of them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attnbench.cases.cost import minimum_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from attnbench.runner.planning.plan import Cell

P = TypeVar("P")
T = TypeVar("T")
_COPIES = 16
"""A waiting worker holds inputs, outputs and copies of both: at most this multiple of the least that a call touches."""


def take_turns(parties: Sequence[tuple[P, Generator[None, None, T]]]) -> Iterator[tuple[P, T]]:
    """Advance the generators in turns, and yield each party with its generator's value as soon as it ends.

    The order is reversed after each round (ABBA), so that a drift affects all alike.
    """
    left = list(parties)
    try:
        while left:
            for party, steps in list(left):
                try:
                    next(steps)
                except StopIteration as end:
                    left.remove((party, steps))
                    yield party, end.value
            left.reverse()
    finally:
        for _, steps in left:
            steps.close()


def in_company(cells: Sequence[Cell], memory_bytes: int | None) -> Iterator[Sequence[Cell]]:
    """Split cells of one case, in their order, into groups that take turns: on a CPU, with a worker for each cell."""
    fits = memory_bytes is None or _COPIES * minimum_bytes(cells[0].case) * len(cells) <= memory_bytes
    group: list[Cell] = []
    for cell in cells:
        key = (cell.found.name, cell.device)
        alone = not fits or cell.device != "cpu" or key in {(other.found.name, other.device) for other in group}
        if group and (alone or group[-1].device != cell.device):
            yield group
            group = []
        group.append(cell)
        if alone:
            yield group
            group = []
    if group:
        yield group
