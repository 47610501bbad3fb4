"""A profile's cells grouped by case, and its texts made printable."""

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
    """A cell with a number and a name that are its own."""

    number: int
    """Counted from 1; part of the names of the cell's files."""
    name: str
    """The implementation, with its side if there is one; unique within its case."""
    cell: CellProfile

    @property
    def phases(self) -> dict[Phase, PhaseTime]:
        """Times by phase, longest first."""
        return {one.phase: one for one in self.cell.phases}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfiledCase:
    """The cells of a case on one device, with one number of threads."""

    label: str
    cells: tuple[ProfiledCell, ...]

    @property
    def profiled(self) -> list[ProfiledCell]:
        """The cells that have phases, fastest first."""
        return sorted((one for one in self.cells if one.phases), key=lambda one: one.cell.median_ns or 0.0)

    @property
    def without(self) -> list[ProfiledCell]:
        """The cells that have no phases."""
        return [one for one in self.cells if not one.phases]


def cases_of(profile: Profile) -> list[ProfiledCase]:
    """Group a profile's cells by case, device and threads, in the order of their first cells."""
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
    """Return the cells that have a profile, with titles that are unique on a page."""
    return [
        (one.name if len(cases) == 1 else f"{one.name}, {case.label}", one) for case in cases for one in case.profiled
    ]


def printable_profile(profile: Profile) -> Profile:
    """Return a copy whose texts are safe to print: one line each, without control characters.

    Lines of sources keep their tabs.

    Raises:
        ProfileError: the profile holds values that no profile has.
    """
    try:
        shown = printable_json(profile.model_dump(mode="json"), _SEVERAL_LINES)
    except ValueError as error:
        raise ProfileError(f"this is no profile: {error}") from error
    return Profile.model_validate(shown)
