"""Verdicts as plain sentences, with units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.gate.judge.scaling import FARTHER
from attnbench.units import duration, size

if TYPE_CHECKING:
    from attnbench.gate.judge.cell_data import SideOfCell
    from attnbench.gate.judge.scaling import ScalingChange, Steeper
    from attnbench.gate.judge.statistics import Decided
    from attnbench.scaling import Interval


def percent(share: float) -> str:
    """Format a relative change, such as ``+3.2 %``."""
    return f"{100 * share:+.1f} %"


def change(ratio: float) -> str:
    """Format a ratio as ``12.3 % slower`` or ``8.1 % faster``, relative to base."""
    return f"{100 * abs(ratio - 1):.1f} % {'slower' if ratio >= 1 else 'faster'}"


def of_time(decided: Decided, base_ns: float | None, head_ns: float | None, of_what: str = "pairs of processes") -> str:
    """Return the sentence on a cell's time; ``of_what`` names what was repeated, such as pairs of processes."""
    low, high = decided.effect.interval()
    interval = f"[{percent(low - 1)}, {percent(high - 1)}]"
    estimate = f"{percent(decided.effect.ratio - 1)} {interval}"
    times = f": {duration(head_ns)} instead of {duration(base_ns)}" if base_ns and head_ns else ""
    found = f"a slow-down of {100 * decided.detectable:.1f} % would have been found"
    if decided.decision in ("slower", "faster"):
        sure = f"confirmed in {decided.effect.rounds} fresh {of_what}, q = {decided.q:.2g}"
        return f"{change(decided.effect.ratio)} {interval}{times}; {sure}"
    if decided.decision == "same":
        return f"no change beyond {100 * decided.delta:.3g} %: {estimate}; {found}"
    if decided.suspicious:
        return f"perhaps changed: {estimate}, not sure enough to be more than {100 * decided.delta:.3g} %"
    return f"too noisy to tell: {estimate}; a slow-down of up to {100 * decided.detectable:.1f} % could hide"


def below_floor(decided: Decided, floor_ns: float, base_ns: float, head_ns: float) -> str:
    """Return the sentence on a confirmed change that is too small in absolute terms to count."""
    return (
        f"{change(decided.effect.ratio)}, which is {duration(abs(head_ns - base_ns))}: differences below "
        f"{duration(floor_ns)} do not count"
    )


def of_memory(base: float, head: float, word: str) -> str:
    """Return the sentence on a cell's peak memory."""
    if word == "same":
        return f"no change of peak memory: {size(head)}"
    more = "more" if head > base else "less"
    return f"{size(abs(head - base))} {more} peak memory: {size(head)} instead of {size(base)}"


def of_growth(growth: ScalingChange, word: str, longest: int, tolerated: float) -> str:
    """Return the sentence on how a quantity grows with the length."""
    what = growth.quantity if growth.quantity == "time" else "peak memory"
    base, head = growth.exponents
    perhaps = "perhaps " if word == "ambiguous" else ""
    if growth.adds and word in ("steeper", "ambiguous"):
        return f"{perhaps}head adds to {what} a term that grows as {_term(growth.adds, base, longest)}"
    if growth.saves and word in ("flatter", "ambiguous"):
        return f"{perhaps}head has lost from {what} a term that grew as {_term(growth.saves, head, longest)}"
    if base is None or head is None:
        return f"no steeper term in {what} on one side"
    laws = f"{what} grows as {power(head)} instead of {power(base)}"
    if word == "ambiguous":
        return f"perhaps {laws}: not sure enough to differ by more than {tolerated:g}"
    return laws if word in ("steeper", "flatter") else f"{what} grows as {power(head)}, on base as {power(base)}"


def power(exponent: Interval) -> str:
    """Format an exponent as ``n^1.98 [1.95, 2.01]``."""
    if math.isinf(exponent.high):
        return f"at least n^{exponent.low:.2f}"
    return f"n^{exponent.value:.2f} [{exponent.low:.2f}, {exponent.high:.2f}]"


def _term(term: Steeper, beside: Interval | None, longest: int) -> str:
    """Describe a steeper term next to a law that is still larger."""
    of_law = power(beside) if beside else "a law that is not seen above its floor"
    return (
        f"{power(term.added)} beside {of_law}: {100 * term.share:.1f} % at {longest:,}{_farther(term, beside, longest)}"
    )


def _farther(term: Steeper, beside: Interval | None, longest: int) -> str:
    """Extrapolate the term's share to longer lengths; empty if the law of the rest is unknown."""
    if beside is None:
        return ""
    share = term.share * FARTHER ** (term.added.value - beside.value)
    return f", about {100 * share:,.0f} % at {FARTHER * longest:,}"


def of_outcome(base: SideOfCell, head: SideOfCell, word: str) -> str:
    """Return the sentence on a cell that is not ok on both sides."""
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
