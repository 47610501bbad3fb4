"""From what was observed and decided to verdicts: outcome first, then memory and time of cells that are ok."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from attnbench.gate import sentences
from attnbench.gate.observed import MISSING
from attnbench.gate.verdict import Verdict

if TYPE_CHECKING:
    from attnbench.gate.decide import Decided
    from attnbench.gate.observed import Observed
    from attnbench.gate.verdict import Name

TIME_FLOOR_NS = {"cpu": 5_000.0, "cuda": 1_000.0}
"""Smaller differences do not count, however sure they are."""
MEMORY_FLOOR_BYTES = 64 * 2**10
MEMORY_SHARE = 0.005
_REFUSED = frozenset({"unsupported", "unavailable", "skipped", MISSING})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """Peak memory on both sides, and whether it changed."""

    base: float
    head: float
    verdict: Name
    apart: bool
    """Whether each reading of one side is beyond each of the other by more than what is tolerated."""


def outcome(cell: Observed) -> Name | None:
    """The verdict on a cell that is not ok on both sides; ``None`` where both are ok, or both refuse it alike."""
    base, head = cell.base.status, cell.head.status
    if base == head == "ok" or (base in _REFUSED and head in _REFUSED):
        return None
    if head == "wrong":
        return "wrong"
    if head == "invalid":
        return "invalid"
    if base == "ok":
        return "lost"
    if head == "ok":
        return "gained"
    return "not_measured"


def is_refused(cell: Observed) -> bool:
    """Whether neither side claims the cell."""
    return cell.base.status in _REFUSED and cell.head.status in _REFUSED


def outcome_verdict(cell: Observed, name: Name) -> Verdict:
    """The verdict on a cell's outcome."""
    failed = cell.head.has_failed or cell.base.has_failed
    return _verdict(cell, "outcome", name, sentences.of_outcome(cell.base, cell.head, name), failed=failed)


def memory_change(cell: Observed) -> MemoryChange | None:
    """Compare peak memory; ``None`` where it was not measured on both sides.

    A change counts above the larger of 64 KiB and 0.5 %, and not below twice what the method reads for an empty call.
    Memory is nearly deterministic: it has changed when each reading of one side is that far from each of the other.
    """
    base, head = cell.base.peaks, cell.head.peaks
    if not base or not head:
        return None
    resolution = 2 * max(cell.base.resolution_bytes, cell.head.resolution_bytes)
    tolerated = max(MEMORY_FLOOR_BYTES, MEMORY_SHARE * max(base), resolution)
    least = min(base), min(head)
    verdict: Name = "same"
    if abs(least[1] - least[0]) > tolerated:  # disturbances only ever add to a peak
        verdict = "bigger" if least[1] > least[0] else "smaller"
    apart = min(head) - max(base) > tolerated or min(base) - max(head) > tolerated
    return MemoryChange(base=least[0], head=least[1], verdict=verdict, apart=apart)


def memory_verdict(cell: Observed, change: MemoryChange) -> Verdict:
    """The verdict on a cell's peak memory; readings of the two sides that overlap are ambiguous."""
    name: Name = change.verdict if change.verdict == "same" or change.apart else "ambiguous"
    sentence = sentences.of_memory(change.base, change.head, change.verdict)
    if name == "ambiguous":
        sentence = f"perhaps {sentence}; readings of one side vary by as much"
    ratio = change.head / change.base if change.base else None
    return _verdict(cell, "memory", name, sentence, base=change.base, head=change.head, ratio=ratio)


def time_verdict(cell: Observed, decided: Decided) -> Verdict:
    """The verdict on a cell's time."""
    base, head = cell.base.time_ns, cell.head.time_ns
    name: Name = decided.decision
    sentence = sentences.of_time(decided, base, head)
    floor = TIME_FLOOR_NS.get(cell.key[2], 0.0)
    if name in ("slower", "faster") and base is not None:
        changed = base * decided.effect.ratio
        if abs(changed - base) < floor:
            name, sentence = "same", sentences.below_floor(decided, floor, base, changed)
    return _verdict(cell, "time", name, sentence, base=base, head=head, **numbers(decided))


def untimed_verdict(cell: Observed) -> Verdict:
    """The verdict on a cell that is ok and has no time because none was asked for, or too few pairs of times."""
    timed = [cell.base.time_ns is not None, cell.head.time_ns is not None]
    if any(timed):
        pairs = sum(
            math.isfinite(b) and math.isfinite(h) for b, h in zip(cell.base.medians, cell.head.medians, strict=True)
        )
        return _verdict(cell, "time", "not_measured", f"only {pairs} pairs of processes were timed", pairs=pairs)
    record = cell.head.decisive
    why = (record or {}).get("reason") or "the scenario asks for no time"
    return _verdict(cell, "outcome", "same", f"it agrees with the oracle on both sides; not timed: {why}")


def common_verdict(decided: Decided, device: str) -> Verdict:
    """The verdict on what all cells of a device have in common."""
    sentence = f"all cells together: {sentences.of_time(decided, None, None)}"
    return Verdict(
        case_id=None, implementation=None, device=device, label=f"all cells on {device}", metric="time",
        verdict=decided.decision, sentence=sentence, **numbers(decided),
    )  # fmt: skip


def numbers(decided: Decided) -> dict[str, Any]:
    """The statistics of a verdict's fields."""
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
    return Verdict(
        case_id=case_id, implementation=implementation, device=device, label=cell.label, metric=metric,
        verdict=name, sentence=sentence, repro=cell.repro, **fields,
    )  # fmt: skip
