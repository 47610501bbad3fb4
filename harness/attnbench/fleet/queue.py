"""The queue of cases for machines: a case is never split, and all of it goes to one kind of machine."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.runner.planning.plan import Cell

MOST_LOSSES = 2
"""Holders lost on a case before it is given up."""


@dataclasses.dataclass
class Work:
    """The cells of one case on one device in one replicate, measured together."""

    cells: Sequence[Cell]
    losses: list[str] = dataclasses.field(default_factory=list)
    """A sentence for each holder lost while measuring it."""

    @property
    def case(self) -> tuple[str, str]:
        """(case_id, device), which is bound to one kind of machine."""
        return (self.cells[0].case.case_id, self.cells[0].device)


class WorkQueue:
    """Work that nobody has taken yet, in the order of the plan.

    Args:
        cells: the plan.
        measured: by (case_id, device), the machine key of the case's existing records.
    """

    def __init__(self, cells: Iterable[Cell], measured: dict[tuple[str, str], str]) -> None:
        works: dict[tuple[object, ...], list[Cell]] = {}
        for cell in cells:
            works.setdefault((cell.replicate, cell.case.case_id, cell.device), []).append(cell)
        self._waiting = collections.deque(Work(cells) for cells in works.values())
        self._bound = dict(measured)
        self._lost: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        """Return the number of waiting works."""
        return len(self._waiting)

    def take(self, device: str, machine_key: str) -> Work | None:
        """Take the next work for a device and bind its case to this kind of machine; ``None`` if there is none."""
        for work in self._waiting:
            if work.case[1] == device and self._bound.setdefault(work.case, machine_key) == machine_key:
                self._waiting.remove(work)
                return work
        return None

    def give_back(self, work: Work, run_id: str, loss: str) -> None:
        """Return work to the head of the queue because its holder, with this ``run_id``, is lost."""
        work.losses.append(loss)
        self._lost[work.case] = run_id
        self._waiting.appendleft(work)

    def orphans(self, left: Iterable[tuple[str, str]]) -> list[tuple[Work, str, str]]:
        """Remove and return work of lost machines that no holder can do, each with the reason and the lost ``run_id``.

        If no holder is left at all, cases stay in the queue for a resumed run, unless they have lost too many.

        Args:
            left: device and machine key of each remaining holder.
        """
        kinds = set(left)
        found = [
            (work, why, self._lost[work.case])
            for work in self._waiting
            if work.case in self._lost and (why := self._why_not(work, kinds))
        ]
        for work, _, _ in found:
            self._waiting.remove(work)
        return found

    def _why_not(self, work: Work, kinds: set[tuple[str, str]]) -> str | None:
        lost = "; ".join(work.losses)
        if len(work.losses) >= MOST_LOSSES:
            return f"{len(work.losses)} machines were lost while they measured this case: {lost}"
        key = self._bound[work.case]
        if not kinds or (work.case[1], key) in kinds:
            return None
        why = f"no machine of the kind that has begun this case ({key}) is left"
        return f"{why}: {lost}" if lost else why
