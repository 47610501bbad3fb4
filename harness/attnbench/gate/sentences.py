"""Verdicts in words: one plain sentence each, numbers with units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.format import duration, size

if TYPE_CHECKING:
    from attnbench.gate.decide import Decided
    from attnbench.gate.observed import SideOfCell


def percent(share: float) -> str:
    """``+3.2 %``: how much more."""
    return f"{100 * share:+.1f} %"


def change(ratio: float) -> str:
    """``12.3 % slower`` or ``8.1 % faster``, both in time of base."""
    return f"{100 * abs(ratio - 1):.1f} % {'slower' if ratio >= 1 else 'faster'}"


def of_time(decided: Decided, base_ns: float | None, head_ns: float | None) -> str:
    """What was found of a cell's time."""
    low, high = decided.effect.interval()
    interval = f"[{percent(low - 1)}, {percent(high - 1)}]"
    estimate = f"{percent(decided.effect.ratio - 1)} {interval}"
    times = f": {duration(head_ns)} instead of {duration(base_ns)}" if base_ns and head_ns else ""
    found = f"a slow-down of {100 * decided.detectable:.1f} % would have been found"
    if decided.decision in ("slower", "faster"):
        sure = f"confirmed in {decided.effect.rounds} fresh pairs of processes, q = {decided.q:.2g}"
        return f"{change(decided.effect.ratio)} {interval}{times}; {sure}"
    if decided.decision == "same":
        return f"no change beyond {100 * decided.delta:.3g} %: {estimate}; {found}"
    if decided.suspicious:
        return f"perhaps changed: {estimate}, not sure enough to be more than {100 * decided.delta:.3g} %"
    return f"too noisy to tell: {estimate}; a slow-down of up to {100 * decided.detectable:.1f} % could hide"


def below_floor(decided: Decided, floor_ns: float, base_ns: float, head_ns: float) -> str:
    """A confirmed change that is too small in absolute terms to matter."""
    return (
        f"{change(decided.effect.ratio)}, which is {duration(abs(head_ns - base_ns))}: differences below "
        f"{duration(floor_ns)} do not count"
    )


def of_memory(base: float, head: float, word: str) -> str:
    """What was found of a cell's peak memory."""
    if word == "same":
        return f"no change of peak memory: {size(head)}"
    more = "more" if head > base else "less"
    return f"{size(abs(head - base))} {more} peak memory: {size(head)} instead of {size(base)}"


def of_outcome(base: SideOfCell, head: SideOfCell, word: str) -> str:
    """What became of a cell that is not ok on both sides."""
    then = "" if base.status == "ok" else f": {base.why}"
    if word == "wrong":
        before = "it was right on base" if base.status == "ok" else f"on base it was {base.status} as well"
        return f"it disagrees with the oracle ({before}): {head.why}"
    if word == "lost":
        what = "has disappeared" if head.status == "missing" else f"is {head.status} on head: {head.why}"
        return f"it was ok on base and {what}"
    if word == "gained":
        return f"it is ok on head and was {base.status} on base{then}"
    if base.status == head.status:
        return f"it is {head.status} on both sides: {head.why}"
    return f"it is {head.status} on head: {head.why}; {base.status} on base{then}"
