"""Estimates the time of a model's attention on each implementation: a capture's counts times a run's medians.

**Time.** The attention of a model on an implementation takes the sum, over its calls, of the number of calls times the
median of the call's cell. A call that the implementation cannot serve keeps its time in the model, as ``attnbench.use``
leaves it to the model. The model would take its own time, less its own attention, plus that sum.

**Intervals.** The ends of the calls' intervals are summed likewise. That is the interval of the sum if the errors of
all calls are fully correlated, as under a drift of the machine's speed, and too wide if they are independent. The
model's own time was measured once and has no interval.

**Memory.** Calls run one after another, so the largest peak counts.

Only cells with the status ok have a time; with any other status the call is not served.
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
    """A call for which an implementation has no time."""

    call: CapturedCall
    status: str
    reason: str
    instead: str | None
    """The implementation that serves it fastest, if any does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Total:
    """The total attention of the model on one implementation."""

    implementation: str
    attention: Estimate
    """Seconds, including those of the model's own attention for calls that are not served."""
    model: Estimate
    """Time of the whole model in seconds."""
    served: tuple[CapturedCall, ...]
    unserved: tuple[Unserved, ...]
    share_served: float
    """Share of the served calls in the time of the model's own attention."""
    peak_bytes: int | None
    """The largest peak of one call; ``None`` if none was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOfMix:
    """A call of the model with the best implementation for it."""

    call: CapturedCall
    label: str
    """Label of the call's case."""
    implementation: str | None
    """``None`` if the model's own attention is kept."""
    seconds: Estimate
    """Total time of these calls."""
    next_best: str | None
    """The fastest other implementation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """The result of a replay."""

    capture: Capture
    totals: tuple[Total, ...]
    """Implementations that serve at least one call, the fastest first."""
    others: tuple[Total, ...]
    """Implementations that serve no call."""
    mix: tuple[PartOfMix, ...]
    """In descending order of time in the model."""
    mix_attention: Estimate
    mix_model: Estimate
    mix_peak_bytes: int | None

    @property
    def best(self) -> Total | None:
        """The fastest implementation, if it is significantly faster than the model's own attention."""
        first = next(iter(self.totals), None)
        if first is None or first.attention.high is None:
            return None
        return first if first.attention.high < self.capture.attention_seconds else None

    @property
    def mix_gains(self) -> bool:
        """Whether the mix is significantly faster than every single implementation."""
        first = next(iter(self.totals), None)
        names = {part.implementation for part in self.mix}
        if first is None or len(names) < 2 or self.mix_attention.high is None:
            return False
        return first.attention.low is not None and self.mix_attention.high < first.attention.low


def replay_of(capture: Capture, cells: Mapping[str, Sequence[CellResult]]) -> Replay:
    """Combine a capture with the cells of a run.

    ``cells`` are the cells of each shape of the capture, one per implementation.
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
    """Choose the fastest implementation for a call, or the preferred one unless another is significantly faster.

    The model's own attention is kept if the chosen implementation is slower.
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
    """Return the seconds of ``calls`` calls."""
    assert cell.timing is not None
    one, factor = cell.timing.estimate, calls * _NS
    low, high = (None if end is None else end * factor for end in (one.low, one.high))
    return Estimate(value=one.value * factor, low=low, high=high, method=one.method)


def _own(call: CapturedCall) -> Estimate:
    """Return the time of the call in the model."""
    return Estimate(value=call.seconds, low=call.seconds, high=call.seconds, method="as captured")


def _sum(parts: Sequence[Estimate]) -> Estimate:
    """Return the sum, with an interval if all parts have one."""
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
    """Return the seconds of the whole model with other attention."""
    rest = max(0.0, capture.total_seconds - capture.attention_seconds)
    low, high = (None if end is None else rest + end for end in (attention.low, attention.high))
    return Estimate(value=rest + attention.value, low=low, high=high, method=attention.method)


def _peak(cells: Sequence[CellResult | None]) -> int | None:
    return max((peak for cell in cells if cell is not None for peak in cell.memories), default=None)
