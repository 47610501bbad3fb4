"""Cells of a profile by case, and its texts as they may be shown."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from attnbench.store.profile import Profile, ProfileError
from attnbench.units import count
from attnbench.untrusted.printable import printable_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.profiling.phases import Phase
    from attnbench.store.profile import CellProfile, PhaseTime

_SEVERAL_LINES = frozenset({"text"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfiledCell:
    """A cell with what tells it from all others."""

    number: int
    """From 1 on; its files have it in their names."""
    name: str
    """The implementation, unique within its case."""
    cell: CellProfile

    @property
    def phases(self) -> dict[Phase, PhaseTime]:
        """Longest first."""
        return {one.phase: one for one in self.cell.phases}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfiledCase:
    """The cells of a case, on one device with so many threads."""

    label: str
    cells: tuple[ProfiledCell, ...]

    @property
    def profiled(self) -> list[ProfiledCell]:
        """Those that have phases, fastest first."""
        return sorted((one for one in self.cells if one.phases), key=lambda one: one.cell.median_ns or 0.0)

    @property
    def without(self) -> list[ProfiledCell]:
        """Those that have none."""
        return [one for one in self.cells if not one.phases]


def cases_of(profile: Profile) -> list[ProfiledCase]:
    """Cases in the order of their first cells."""
    found: dict[tuple[str, str, int], list[ProfiledCell]] = {}
    seen: collections.Counter[tuple[str, str, int, str]] = collections.Counter()
    for number, cell in enumerate(profile.cells, start=1):
        key = (cell.case_id, cell.device, cell.threads)
        name = f"{cell.implementation}, {cell.side}" if cell.side else cell.implementation
        seen[*key, name] += 1
        again = seen[*key, name]
        name = name if again == 1 else f"{name} ({again})"
        found.setdefault(key, []).append(ProfiledCell(number=number, name=name, cell=cell))
    return [
        ProfiledCase(label=f"{cells[0].cell.label}, {device}, {count(threads, 'thread')}", cells=tuple(cells))
        for (_, device, threads), cells in found.items()
    ]


def titled(cases: Sequence[ProfiledCase]) -> list[tuple[str, ProfiledCell]]:
    """The cells that have a profile, with names that are unique on a page."""
    return [
        (one.name if len(cases) == 1 else f"{one.name}, {case.label}", one) for case in cases for one in case.profiled
    ]


def printable_profile(profile: Profile) -> Profile:
    """The same with texts in one line, in which nothing acts on a terminal; lines of sources keep their tabs.

    Raises:
        ProfileError: when it holds what no profile has.
    """
    try:
        shown = printable_json(profile.model_dump(mode="json"), _SEVERAL_LINES)
    except ValueError as error:
        raise ProfileError(f"this is no profile: {error}") from error
    return Profile.model_validate(shown)
