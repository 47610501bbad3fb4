"""The time of a model's attention on each implementation: a capture's counts times a run's medians.

**Time.** The attention of a model takes, on one implementation, the sum over its calls of how often each is made times
the median of its cell. A call that the implementation cannot serve keeps the time that it took in the model, as
``attnbench.use`` leaves it to the model. The model would take its time, less its own attention, plus that sum.

**Intervals.** The ends of the calls' intervals are added up likewise. That is the interval of the sum where all calls
err together, as they do where the machine's pace drifts, and wider than that where they err apart. What the model
itself took was measured once and has no interval.

**Memory.** Calls come one after the other, so that of several the largest peak counts.

Only cells that are ok have a time; whatever else one ended as, the call is not served.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.views.estimates import Estimate, clearly_faster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.store.capture import Capture, CapturedCall
    from attnbench.views.cells import CellResult

_NS = 1e-9
METHOD = "ends of the calls' intervals added up"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unserved:
    """A call that an implementation has no time for."""

    call: CapturedCall
    status: str
    reason: str
    instead: str | None
    """The implementation that serves it fastest, where any does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Total:
    """All attention of the model on one implementation, added up."""

    implementation: str
    attention: Estimate
    """Seconds, those included that the model's own attention took for what is not served."""
    model: Estimate
    """Seconds of the whole model."""
    served: tuple[CapturedCall, ...]
    unserved: tuple[Unserved, ...]
    share_served: float
    """The share of the time of the model's own attention that the served calls have."""
    peak_bytes: int | None
    """The largest peak of one call; ``None`` where none was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOfMix:
    """A call of the model on the implementation that suits it best."""

    call: CapturedCall
    label: str
    """The call as a case."""
    implementation: str | None
    """``None`` where the model's own attention is left to it."""
    seconds: Estimate
    """The time of all these calls together."""
    next_best: str | None
    """The fastest of the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """The answer of a replay."""

    capture: Capture
    totals: tuple[Total, ...]
    """Those that serve a call, the fastest first."""
    others: tuple[Total, ...]
    """Implementations that serve none."""
    mix: tuple[PartOfMix, ...]
    """By falling time in the model."""
    mix_attention: Estimate
    mix_model: Estimate
    mix_peak_bytes: int | None

    @property
    def best(self) -> Total | None:
        """The fastest implementation, if it is faster than the model's own attention beyond noise."""
        first = next(iter(self.totals), None)
        if first is None or first.attention.high is None:
            return None
        return first if first.attention.high < self.capture.attention_seconds else None

    @property
    def mix_gains(self) -> bool:
        """Whether the mix is faster than every single implementation, beyond noise."""
        first = next(iter(self.totals), None)
        names = {part.implementation for part in self.mix}
        if first is None or len(names) < 2 or self.mix_attention.high is None:
            return False
        return first.attention.low is not None and self.mix_attention.high < first.attention.low


def replay_of(capture: Capture, cells: Mapping[str, Sequence[CellResult]]) -> Replay:
    """Combine a capture with the cells of a run.

    ``cells`` are those of each shape of the capture, one for each implementation.
    """
    names = list(dict.fromkeys(cell.implementation for of_call in cells.values() for cell in of_call))
    by_name = {name: {shape: _cell(of_call, name) for shape, of_call in cells.items()} for name in names}
    timed = {shape: sorted((c for c in of_call if c.timing), key=_time) for shape, of_call in cells.items()}
    everyone = [_total(capture, name, by_name[name], timed) for name in names]
    totals = sorted((one for one in everyone if one.served), key=lambda one: one.attention.value)
    preferred = totals[0].implementation if totals else None
    mix = tuple(_part(call, timed[call.shape], cells[call.shape], preferred) for call in capture.calls)
    chosen = [by_name[part.implementation][part.call.shape] for part in mix if part.implementation]
    attention = _sum([part.seconds for part in mix])
    return Replay(
        capture=capture,
        totals=tuple(totals),
        others=tuple(one for one in everyone if not one.served),
        mix=mix,
        mix_attention=attention,
        mix_model=_model(capture, attention),
        mix_peak_bytes=_peak(chosen),
    )


def _total(
    capture: Capture, name: str, cells: Mapping[str, CellResult | None], timed: Mapping[str, Sequence[CellResult]]
) -> Total:
    served, unserved, seconds = [], [], []
    for call in capture.calls:
        cell = cells[call.shape]
        if cell is not None and cell.timing is not None:
            served.append(call)
            seconds.append(_scaled(cell, call.calls))
            continue
        seconds.append(_own(call))
        instead = next((one.implementation for one in timed[call.shape]), None)
        status, reason = (
            ("missing", "it was not run") if cell is None else (cell.status, cell.reason or "it has no time")
        )
        unserved.append(Unserved(call=call, status=status, reason=reason, instead=instead))
    attention, own = _sum(seconds), capture.attention_seconds
    return Total(
        implementation=name,
        attention=attention,
        model=_model(capture, attention),
        served=tuple(served),
        unserved=tuple(unserved),
        share_served=sum(call.seconds for call in served) / own if own else 0.0,
        peak_bytes=_peak([cells[call.shape] for call in served]),
    )


def _part(
    call: CapturedCall, timed: Sequence[CellResult], cells: Sequence[CellResult], preferred: str | None
) -> PartOfMix:
    """The fastest for a call; the preferred one where noise leaves open whether another is faster.

    The model's own attention stays where the fastest is slower than it.
    """
    label = cells[0].case.label() if cells else call.shape
    own = _own(call)
    if not timed:
        return PartOfMix(call=call, label=label, implementation=None, seconds=own, next_best=None)
    best = timed[0]
    favourite = next((cell for cell in timed if cell.implementation == preferred), None)
    if favourite is not None and not _is_clear(best, favourite):
        best = favourite
    others = [cell.implementation for cell in timed if cell is not best]
    seconds = _scaled(best, call.calls)
    if seconds.value > own.value:
        return PartOfMix(call=call, label=label, implementation=None, seconds=own, next_best=best.implementation)
    return PartOfMix(
        call=call, label=label, implementation=best.implementation, seconds=seconds, next_best=next(iter(others), None)
    )


def _is_clear(best: CellResult, other: CellResult) -> bool:
    assert best.timing is not None
    assert other.timing is not None
    return clearly_faster(best.timing, other.timing)


def _cell(cells: Sequence[CellResult], name: str) -> CellResult | None:
    return next((cell for cell in cells if cell.implementation == name), None)


def _time(cell: CellResult) -> float:
    return cell.time_ns or 0.0


def _scaled(cell: CellResult, calls: int) -> Estimate:
    """Seconds of so many calls."""
    assert cell.timing is not None
    one, factor = cell.timing.estimate, calls * _NS
    low, high = (None if end is None else end * factor for end in (one.low, one.high))
    return Estimate(value=one.value * factor, low=low, high=high, method=one.method)


def _own(call: CapturedCall) -> Estimate:
    """The time of the call in the model."""
    return Estimate(value=call.seconds, low=call.seconds, high=call.seconds, method="as captured")


def _sum(parts: Sequence[Estimate]) -> Estimate:
    """The sum, with an interval where all parts have one."""
    lows, highs = (
        [end for end in ends if end is not None] for ends in ([p.low for p in parts], [p.high for p in parts])
    )
    known = len(lows) == len(highs) == len(parts)
    return Estimate(
        value=sum(part.value for part in parts),
        low=sum(lows) if known else None,
        high=sum(highs) if known else None,
        method=METHOD,
    )


def _model(capture: Capture, attention: Estimate) -> Estimate:
    """Seconds of the whole model with other attention."""
    rest = max(0.0, capture.total_seconds - capture.attention_seconds)
    low, high = (None if end is None else rest + end for end in (attention.low, attention.high))
    return Estimate(value=rest + attention.value, low=low, high=high, method=attention.method)


def _peak(cells: Sequence[CellResult | None]) -> int | None:
    return max((peak for cell in cells if cell is not None for peak in cell.memories), default=None)
