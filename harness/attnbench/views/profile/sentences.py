"""Sentences about a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.profiling.parts import LINE_BYTES
from attnbench.profiling.phases import Phase
from attnbench.units import TIMES, count, duration, number, size
from attnbench.views.profile.bars import SHORT, total_ns

if TYPE_CHECKING:
    from attnbench.store.profile import CellProfile, PhaseTime
    from attnbench.views.profile.cases import ProfiledCell

_LEAST_SHARE, _MOST_NAMED = 0.05, 4
_LOSS_WORTH_NAMING, _MOST_LOSSES = 0.03, 2
"""The share of a call that a phase must lose over its floor to be named, and the most losses that are named."""
_MUCH = 0.1


def share(time: PhaseTime, one: ProfiledCell) -> float:
    """Return a phase's share of the sum of all phases."""
    whole = total_ns(one)
    return time.ns / whole if whole else 0.0


def answer(one: ProfiledCell) -> str:
    """``numba/flash: 41 % P V, 39 % Q K^T. P V takes 1.9× its floor (0.8 ms more).``."""
    shares = {phase: share(time, one) for phase, time in one.phases.items()}
    large = [phase for phase in shares if shares[phase] >= _LEAST_SHARE and phase != Phase.OTHER][:_MOST_NAMED]
    named = [f"{_percent(shares[phase])} {SHORT[phase]}" for phase in large or list(shares)[:1]]
    said = [f"{one.name}: {', '.join(named)}."]
    losses = _losses(one)
    if losses:
        said.append(f"{', '.join(map(_loss, losses))}.")
    other = shares.get(Phase.OTHER, 0.0)
    said.append(f"{_percent(other)} is other{', more than there should be' if other >= _MUCH else ''}.")
    return " ".join(said)


def _losses(one: ProfiledCell) -> list[PhaseTime]:
    """Return the phases that lose most over their floors, largest loss first."""
    worth = _LOSS_WORTH_NAMING * total_ns(one)
    return sorted((time for time in one.phases.values() if _lost_ns(time) >= worth), key=_lost_ns)[
        : -_MOST_LOSSES - 1 : -1
    ]


def _lost_ns(time: PhaseTime) -> float:
    return time.ns - time.floor_ns if time.floor_ns else 0.0


def _loss(time: PhaseTime) -> str:
    ratio = number(time.ns / (time.floor_ns or time.ns), 2)
    return f"{SHORT[time.phase]} takes {ratio}{TIMES} its floor ({duration(_lost_ns(time))} more)"


def conditions(one: ProfiledCell) -> str:
    """Say how far the numbers can be trusted: samples, slow-down, and the profile's own notes."""
    cell = one.cell
    said = f"{one.name}: {count(cell.samples, 'sample')} of {count(cell.calls, 'call')}"
    if cell.period_ns:
        said += f", one each {duration(cell.period_ns)}"
    if cell.slowdown is not None:
        said += f"; while sampled, a call takes {number(cell.slowdown)}{TIMES} its time"
    if cell.lost:
        said += f"; {count(cell.lost, 'sample')} lost"
    return " ".join([f"{said}.", *(sentence(f"{note[:1].upper()}{note[1:]}") for note in cell.notes)])


def counters(cell: CellProfile) -> str:
    """Return the hardware's counts for a call as text; it is empty if nothing was counted."""
    found = cell.counted
    if found is None:
        return ""
    per_cycle, moved = found.instructions / found.cycles, LINE_BYTES * found.cache_misses
    rate = f" ({number(moved / cell.median_ns)} GB/s)" if cell.median_ns else ""
    said = f"{number(found.cycles)} cycles, {number(per_cycle)} instructions a cycle"
    return f"{said}, at least {size(moved)} from memory{rate}"


def why_not(cell: CellProfile) -> str:
    """Say why a cell has no profile."""
    return sentence(cell.reason or ("it has no samples" if cell.status == "ok" else cell.status))


def sentence(text: str) -> str:
    """End a text with a full stop, unless it ends with a mark already."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.01 else f"{number(100 * part, 1)} %"
