"""The fastest implementation of each case, and its lead where that is beyond noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.views.estimates import Estimate, clearly_faster, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.groups import Group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Winner:
    """The fastest implementation of one case on one device."""

    tokens: int
    names: tuple[str, ...]
    """The fastest, followed by those within noise of it."""
    ties: tuple[Estimate, ...]
    """The times of the latter over that of the fastest."""
    time_ns: float
    runner_up: str | None
    """The fastest implementation that is clearly slower."""
    lead: Estimate | None
    """The runner-up's time over that of the fastest."""

    @property
    def is_clear(self) -> bool:
        """Whether another implementation was timed, and all others are clearly slower."""
        return len(self.names) == 1 and self.runner_up is not None

    @property
    def is_alone(self) -> bool:
        """Whether no other implementation has a time."""
        return len(self.names) == 1 and self.runner_up is None


def winners_of(group: Group) -> list[Winner]:
    """Return the winner at each length of a group at which anything was timed."""
    at = grouped((cell for cell in group.cells if cell.timing is not None), lambda cell: cell.case.seqlen_kv)
    return [winner_of(tokens, at[tokens]) for tokens in sorted(at)]


def winner_of(tokens: int, timed: Sequence[CellResult]) -> Winner:
    """Return the winner of one case on one device from its cells, all of which have a time."""
    fastest, *others = sorted(timed, key=lambda cell: (cell.time_ns or 0, cell.implementation))
    assert fastest.timing is not None
    slower = [cell for cell in others if cell.timing is not None and clearly_faster(fastest.timing, cell.timing)]
    level = [cell for cell in others if cell not in slower]
    next_one = slower[0] if slower else None
    return Winner(
        tokens=tokens,
        names=(fastest.implementation, *(cell.implementation for cell in level)),
        ties=tuple(ratio(cell.timing, fastest.timing) for cell in level if cell.timing is not None),
        time_ns=fastest.timing.value,
        runner_up=next_one.implementation if next_one else None,
        lead=ratio(next_one.timing, fastest.timing) if next_one and next_one.timing else None,
    )
