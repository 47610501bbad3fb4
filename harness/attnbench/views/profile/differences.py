"""How two cells of a case differ: phase by phase, and the rest that is in no phase."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.profiling.phases import TITLES, Phase
from attnbench.units import TIMES, duration, duration_interval, number, signed_duration
from attnbench.views.document import Column, Table, column
from attnbench.views.profile.bars import SHORT

if TYPE_CHECKING:
    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase, ProfiledCell

_WORTH_NAMING = 0.01
"""The share of a difference above which the time in no phase is named."""
_MOST_NAMED = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseDifference:
    """The times of one phase in both cells; the difference is negative if the slower cell spends less time in it."""

    phase: Phase
    fast_ns: float
    slow_ns: float
    low_ns: float
    high_ns: float
    """The outermost differences between the ends of both 95 % intervals."""

    @property
    def ns(self) -> float:
        """Slower less faster."""
        return self.slow_ns - self.fast_ns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two cells' medians, split by phase."""

    fast: ProfiledCell
    slow: ProfiledCell
    ns: float
    """Difference of the medians."""
    phases: tuple[PhaseDifference, ...]
    """Ordered by absolute difference, largest first."""

    @property
    def rest_ns(self) -> float:
        """The part of the difference that is in no phase."""
        return self.ns - sum(one.ns for one in self.phases)

    @property
    def sentence(self) -> str:
        """``B is 2.4 ms slower than A (1.8×): +1.3 ms exp, +0.9 ms packing``."""
        fast_ns = self.fast.cell.median_ns or 0.0
        ratio = f" ({number((fast_ns + self.ns) / fast_ns)}{TIMES} its time)" if fast_ns else ""
        named = [f"{signed_duration(one.ns)} {SHORT[one.phase]}" for one in self.phases[:_MOST_NAMED]]
        others = sum(one.ns for one in self.phases[_MOST_NAMED:])
        if len(self.phases) > _MOST_NAMED:
            named.append(f"{signed_duration(others)} all others")
        if abs(self.rest_ns) > _WORTH_NAMING * self.ns:
            named.append(f"{signed_duration(self.rest_ns)} in no phase")
        return f"{self.slow.name} is {duration(self.ns)} slower than {self.fast.name}{ratio}: {', '.join(named)}."


def differences_of(case: ProfiledCase) -> list[Difference]:
    """Compare each cell with the fastest, or both sides of each implementation if the profile has sides.

    Only cells with phases and a median are compared.
    """
    timed = [one for one in case.profiled if one.cell.median_ns is not None]
    sets = grouped(timed, lambda one: one.cell.implementation if one.cell.side else "")
    return [_difference(fastest, slow) for fastest, *others in sets.values() for slow in others]


def _difference(fast: ProfiledCell, slow: ProfiledCell) -> Difference:
    together = any(one.phases[Phase.PRODUCTS].ns for one in (fast, slow) if Phase.PRODUCTS in one.phases)
    ours, theirs = _times(fast, together=together), _times(slow, together=together)
    parts = [
        PhaseDifference(
            phase=phase,
            fast_ns=ours[phase][0],
            slow_ns=theirs[phase][0],
            low_ns=theirs[phase][1] - ours[phase][2],
            high_ns=theirs[phase][2] - ours[phase][1],
        )
        for phase in Phase
        if any(ours[phase]) or any(theirs[phase])
    ]
    whole = (slow.cell.median_ns or 0.0) - (fast.cell.median_ns or 0.0)
    return Difference(fast=fast, slow=slow, ns=whole, phases=tuple(sorted(parts, key=lambda one: -abs(one.ns))))


def _times(one: ProfiledCell, *, together: bool) -> dict[Phase, tuple[float, float, float]]:
    """Return the time and interval of each phase; ``together`` adds Q K^T and P V to one phase of products."""
    found = dict.fromkeys(Phase, (0.0, 0.0, 0.0))
    for phase, time in one.phases.items():
        into = Phase.PRODUCTS if together and phase in (Phase.QK, Phase.PV) else phase
        before = found[into]
        found[into] = (before[0] + time.ns, before[1] + time.low_ns, before[2] + time.high_ns)
    return found


def difference_table(difference: Difference) -> Table:
    """Return a row for each phase, one for time in no phase if there is enough, and the difference of the medians."""
    fast, slow = difference.fast, difference.slow
    rows: list[Row] = [
        {
            "phase": TITLES[one.phase],
            "fast": one.fast_ns or None,
            "slow": one.slow_ns or None,
            "ns": one.ns,
            "interval": (one.low_ns, one.high_ns),
        }
        for one in difference.phases
    ]
    if abs(difference.rest_ns) > _WORTH_NAMING * difference.ns:
        rows.append({"phase": "in no phase", "fast": None, "slow": None, "ns": difference.rest_ns, "interval": None})
    medians = {"fast": fast.cell.median_ns, "slow": slow.cell.median_ns}
    rows.append({"phase": "median call", **medians, "ns": difference.ns, "interval": None})
    return Table(
        columns=[
            column("phase", is_implementation=True),
            column(fast.name, "fast", unit="ns", spare=2),
            column(slow.name, "slow", unit="ns", spare=1),
            Column(title="difference", text=lambda row: signed_duration(row["ns"]), is_number=True),
            Column(title="95 % interval", text=_interval, is_number=True, spare=3),
        ],
        rows=rows,
    )


def _interval(row: Row) -> str:
    return duration_interval(*(row["interval"] or (None, None)))
