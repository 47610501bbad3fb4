"""Summarises a replay in one sentence."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.units import count, duration_interval, listing, shown, times
from attnbench.views.columns import OWN

if TYPE_CHECKING:
    from attnbench.replaying.estimate import Replay, Total
    from attnbench.views.estimates import Estimate


def sentence(replay: Replay) -> str:
    """Return a sentence on the fastest implementation or mix."""
    first = next(iter(replay.totals), None)
    own = replay.capture.attention_seconds
    if first is None:
        return "No implementation serves any of these calls: the model keeps its own attention."
    if replay.best is None:
        return (
            f"None is faster than the model's own attention beyond noise, {shown(own, 's')}: the fastest, "
            f"{first.implementation}, would take {with_interval(first.attention)}."
        )
    said = _on(replay, replay.best)
    return f"{said}; {_on_the_mix(replay)}." if replay.mix_gains else f"{said}."


def _on(replay: Replay, best: Total) -> str:
    total, own = replay.capture.total_seconds, replay.capture.attention_seconds
    model, attention = best.model.value, best.attention.value
    left = sum(one.call.calls for one in best.unserved)
    rest = f", {count(left, 'call')} left to the model" if left else ""
    return (
        f"With {best.implementation} the model would take about {shown(model, 's')} in place of {shown(total, 's')}, "
        f"{times(total / model)} as fast; attention alone {shown(attention, 's')} in place of {shown(own, 's')}{rest}"
    )


def _on_the_mix(replay: Replay) -> str:
    names = collections.Counter(part.implementation or OWN for part in replay.mix)
    return (
        f"the best of each call, {listing([name for name, _ in names.most_common()])}, would take "
        f"{shown(replay.mix_model.value, 's')}"
    )


def with_interval(estimate: Estimate) -> str:
    """Return a time as text, with its interval if it has one."""
    if estimate.low is None or estimate.high is None:
        return shown(estimate.value, "s")
    return f"{shown(estimate.value, 's')} ({duration_interval(1e9 * estimate.low, 1e9 * estimate.high)})"
