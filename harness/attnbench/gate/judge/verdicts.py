"""Verdicts on cells: on the outcome first, then on memory and time if both sides are ok."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypedDict

from attnbench.gate.judge import messages
from attnbench.gate.judge.cell_data import MISSING
from attnbench.gate.judge.scaling import MEMORY_FLOOR_BYTES, TIME_FLOOR_NS
from attnbench.gate.verdict import Verdict

if TYPE_CHECKING:
    from attnbench.gate.judge.cell_data import Observed
    from attnbench.gate.judge.scaling import Quantity, ScalingChange, Series
    from attnbench.gate.judge.statistics import Decided
    from attnbench.gate.verdict import Name
    from attnbench.scaling import Interval

_REFUSED = frozenset({"unsupported", "unavailable", "skipped", MISSING})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """Peak memory in bytes on both sides, and whether it changed."""

    base: float
    head: float
    verdict: Name
    apart: bool
    """Whether all readings of one side differ from all of the other by more than is tolerated."""
    delta: float
    """Tolerated share."""


def outcome(cell: Observed) -> Name | None:
    """Return the verdict on a cell that is not ok on both sides; ``None`` if both are ok, or both refuse it."""
    base, head = cell.base.status, cell.head.status
    if base == head == "ok" or (base in _REFUSED and head in _REFUSED):
        return None
    if head == "wrong":
        return "wrong"
    if head == "invalid":
        return "invalid"
    if base == "ok":
        return "lost"
    if head == "undecided":
        return "not_comparable"
    if head == "ok":
        return "gained"
    return "not_measured"


def is_refused(cell: Observed) -> bool:
    """Whether both sides refuse or lack the cell."""
    return cell.base.status in _REFUSED and cell.head.status in _REFUSED


def outcome_verdict(cell: Observed, name: Name) -> Verdict:
    """Build the verdict on a cell's outcome."""
    failed = cell.head.has_failed or cell.base.has_failed
    return _verdict(cell, "outcome", name, messages.of_outcome(cell.base, cell.head, name), failed=failed)


def memory_change(cell: Observed, share: float) -> MemoryChange | None:
    """Compare peak memory; ``None`` if it was not measured on both sides.

    A change counts if it exceeds 64 KiB, the tolerated share and twice the method's reading of an empty call. Memory
    is nearly deterministic, so a change is certain only if every reading of one side is that far from every reading of
    the other.
    """
    base, head = cell.base.peaks, cell.head.peaks
    if not base or not head:
        return None
    tolerated = tolerated_bytes(max(base), share, max(cell.base.resolution_bytes, cell.head.resolution_bytes))
    least = min(base), min(head)
    verdict: Name = "same"
    if abs(least[1] - least[0]) > tolerated:  # disturbances only ever add to a peak
        verdict = "bigger" if least[1] > least[0] else "smaller"
    apart = min(head) - max(base) > tolerated or min(base) - max(head) > tolerated
    return MemoryChange(base=least[0], head=least[1], verdict=verdict, apart=apart, delta=share)


def tolerated_bytes(peak: float, share: float, resolution_bytes: int) -> float:
    """Return the largest change of a peak that does not count, in bytes.

    Args:
        peak: base's peak, bytes.
        share: tolerated share of the peak.
        resolution_bytes: the method's reading of an empty call.
    """
    return max(MEMORY_FLOOR_BYTES, share * peak, 2.0 * resolution_bytes)


def memory_verdict(cell: Observed, change: MemoryChange) -> Verdict:
    """Build the verdict on a cell's peak memory; overlapping readings of the two sides are ambiguous."""
    name: Name = change.verdict if change.verdict == "same" or change.apart else "ambiguous"
    sentence = messages.of_memory(change.base, change.head, change.verdict)
    if name == "ambiguous":
        sentence = f"perhaps {sentence}; readings of one side vary by as much"
    ratio = change.head / change.base if change.base else None
    return _verdict(
        cell, "memory", name, sentence, base=change.base, head=change.head, ratio=ratio,
        delta=change.delta,
    )  # fmt: skip


def time_verdict(cell: Observed, decided: Decided, *, paired: bool) -> Verdict:
    """Build the verdict on a cell's time, from pairs of processes or (not ``paired``) against stored processes."""
    base, head = cell.base.time_ns, cell.head.time_ns
    name: Name = decided.decision
    sentence = messages.of_time(decided, base, head, "pairs of processes" if paired else "processes")
    floor = TIME_FLOOR_NS.get(cell.key[2], 0.0)
    if name in ("slower", "faster") and base is not None:
        changed = base * decided.effect.ratio
        if abs(changed - base) < floor:
            name, sentence = "same", messages.below_floor(decided, floor, base, changed)
    return _verdict(cell, "time", name, sentence, base=base, head=head, **numbers(decided))


def untimed_verdict(cell: Observed, *, paired: bool) -> Verdict:
    """Build the verdict on an ok cell without a comparable time: none was asked for, or too few processes have one."""
    timed = [[math.isfinite(ns) for ns in side.medians] for side in (cell.base, cell.head)]
    if any(map(any, timed)):
        few = sum(map(all, zip(*timed, strict=True))) if paired else min(map(sum, timed))
        what = "pairs of processes" if paired else "processes of one side"
        return _verdict(cell, "time", "not_measured", f"only {few} {what} were timed", pairs=few)
    record = cell.head.decisive
    why = (record or {}).get("reason") or "the scenario asks for no time"
    return _verdict(cell, "outcome", "same", f"it agrees with the oracle on both sides; not timed: {why}")


def growth_verdict(
    series: Series, quantity: Quantity, first: ScalingChange, again: ScalingChange | None, tolerated: float
) -> Verdict | None:
    """Build the verdict on how a series grows; ``None`` if no law could be fitted.

    Args:
        series: its cells in the first stage.
        quantity: time or memory.
        first: its growth in the first stage.
        again: its growth in fresh processes, which alone can confirm a suspicion of the first stage.
        tolerated: difference of exponents.
    """
    suspected = first.changed(tolerated)
    weighed = first
    # A term without a law next to it that is absent in fresh processes did not show again; missing laws leave it open.
    if suspected and again is not None and (again.refusal is None or not first.has_laws):
        weighed = again
    if weighed.refusal is not None:
        return None
    name: Name = "same"
    if suspected and weighed is not first and weighed.steeper(tolerated):
        name = "steeper"
    elif suspected and weighed is not first and weighed.flatter(tolerated):
        name = "flatter"
    elif weighed.perhaps_steeper(tolerated) or (suspected and weighed is first):
        name = "ambiguous"
    words = f"{quantity} over {series.axis} {series.lengths[0]} to {series.lengths[-1]}"
    base, head = weighed.exponents
    return _verdict(
        series.longest, "exponent", name, messages.of_growth(weighed, name, series.lengths[-1], tolerated),
        of=quantity, label=f"{series.label}, {words}", delta=tolerated,
        **_interval("base", base), **_interval("head", head),
    )  # fmt: skip


def _interval(side: str, exponent: Interval | None) -> dict[str, float | None]:
    if exponent is None:
        return {}
    high = None if math.isinf(exponent.high) else exponent.high
    return {side: exponent.value, f"{side}_low": exponent.low, f"{side}_high": high}


def common_verdict(decided: Decided, device: str) -> Verdict:
    """Build the verdict on the change that all cells of a device share."""
    sentence = f"all cells together: {messages.of_time(decided, None, None)}"
    return Verdict(
        case_id=None, implementation=None, device=device, label=f"all cells on {device}", metric="time",
        verdict=decided.decision, sentence=sentence, **numbers(decided),
    )  # fmt: skip


class Statistics(TypedDict):
    """Statistical fields of a verdict."""

    ratio: float
    ratio_low: float
    ratio_high: float
    delta: float
    p: float
    q: float | None
    detectable: float
    noise_sd: float
    pairs: int


def numbers(decided: Decided) -> Statistics:
    """Return the statistical fields of a verdict from a decision."""
    low, high = decided.effect.interval()
    return {
        "ratio": decided.effect.ratio,
        "ratio_low": low,
        "ratio_high": high,
        "delta": decided.delta,
        "p": decided.p,
        "q": decided.q,
        "detectable": decided.detectable,
        "noise_sd": decided.effect.sd,
        "pairs": decided.effect.rounds,
    }


def _verdict(cell: Observed, metric: Any, name: Name, sentence: str, **fields: Any) -> Verdict:
    case_id, implementation, device = cell.key
    usual = {"label": cell.label, "repro": cell.repro}
    return Verdict(
        case_id=case_id, implementation=implementation, device=device, metric=metric, verdict=name, sentence=sentence,
        **{**usual, **fields},
    )  # fmt: skip
