"""A replay in one sentence: what the model would take, on what."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.units import count, duration, duration_interval, listing, times

if TYPE_CHECKING:
    from attnbench.replaying.estimate import Candidate, Replay
    from attnbench.views.estimates import Estimate


def sentence(replay: Replay) -> str:
    """The answer."""
    first = next(iter(replay.candidates), None)
    own = replay.capture.attention_seconds
    if first is None:
        return "No implementation serves any of these calls: the model keeps its own attention."
    if replay.best is None:
        return (
            f"None is faster than the model's own attention beyond noise, {seconds(own)}: the fastest, "
            f"{first.implementation}, would take {with_interval(first.attention)}."
        )
    said = _on(replay, replay.best)
    return f"{said}; {_on_the_mix(replay)}." if replay.mix_gains else f"{said}."


def _on(replay: Replay, best: Candidate) -> str:
    total, own = replay.capture.total_seconds, replay.capture.attention_seconds
    model, attention = best.model.value, best.attention.value
    left = sum(one.call.calls for one in best.unserved)
    rest = f", {count(left, 'call')} left to the model" if left else ""
    return (
        f"With {best.implementation} the model would take about {seconds(model)} in place of {seconds(total)}, "
        f"{times(total / model)} as fast; of this attention {seconds(attention)} in place of {seconds(own)}{rest}"
    )


def _on_the_mix(replay: Replay) -> str:
    names = collections.Counter(part.implementation or "the model's own" for part in replay.mix)
    return (
        f"the best of each call, {listing([name for name, _ in names.most_common()])}, would take "
        f"{seconds(replay.mix_model.value)}"
    )


def seconds(value: float | None) -> str:
    """Seconds, or milliseconds and less."""
    return duration(None if value is None else 1e9 * value)


def with_interval(estimate: Estimate) -> str:
    """A time with its interval, where it has one."""
    if estimate.low is None or estimate.high is None:
        return seconds(estimate.value)
    return f"{seconds(estimate.value)} ({duration_interval(1e9 * estimate.low, 1e9 * estimate.high)})"
