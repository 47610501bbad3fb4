"""Timing of one call: warm-up, inner loops, samples. Clock and call are arguments, so that tests are exact.

The protocol is in docs/methodology.md. Every raw sample is kept in order; none is dropped.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.machine.interference import Counters
    from attnbench.worker.sampled_rows import SampledRows

    Clock = Callable[[], int]

MIN_WARMUP_CALLS = 3
MIN_WARMUP_NS = 100_000_000
MAX_WARMUP_CALLS = 50
MAX_WARMUP_NS = 2_000_000_000
RESUME_NS, MAX_RESUME_NS = 15_000_000, 60_000_000
_AS_WARM, _CALLS_AS_WARM = 1.1, 3
WINDOW = 5
WINDOW_AGREEMENT = 0.02
MIN_SAMPLE_NS = 1_000_000
_TRIES = 7
_COLD_NS = 40_000
"""A call after other code has run takes 10 to 30 microseconds longer."""
MOST_BETWEEN_CALLS = 3
"""Between short calls, large inputs are generated and caches are flushed, which may take twice as long as the calls."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingLimits:
    """When sampling stops; on CUDA also after ``min_samples`` once the interval is narrow."""

    min_samples: int = 10
    max_samples: int = 200
    sampling_ns: int = 1_000_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup:
    """The outcome of the warm-up."""

    calls: int
    converged: bool
    call_ns: float
    """Median of the last window: about the time of one call."""


@dataclasses.dataclass
class SampleWindow:
    """Samples that are being taken."""

    calls: int
    """The number of calls in a sample."""
    set_up: Callable[[], object]
    cache: str
    warmed: Warmup
    before: Counters
    rows: SampledRows
    samples: list[float] = dataclasses.field(default_factory=list)
    result: object = None


def warm_up(
    call: Callable[[], object],
    clock: Clock,
    *,
    set_up: Callable[[], object] = lambda: None,
    min_ns: int = MIN_WARMUP_NS,
    max_calls: int = MAX_WARMUP_CALLS,
    max_ns: int = MAX_WARMUP_NS,
) -> Warmup:
    """Call until two successive windows of five calls have medians within 2 %, or a cap is reached.

    It makes at least 3 calls and takes at least ``min_ns`` (a processor takes 100 ms to raise its clock), and makes at
    most ``max_calls`` or takes at most ``max_ns``.
    """
    times: list[int] = []
    busy = 0
    while True:
        elapsed = _timed(call, clock, set_up)
        times.append(elapsed)
        busy += elapsed
        settled = _settled(times)
        if busy >= max_ns or (
            busy >= min_ns and (len(times) >= max_calls or (settled and len(times) >= MIN_WARMUP_CALLS))
        ):
            return Warmup(calls=len(times), converged=settled, call_ns=statistics.median(times[-WINDOW:]))


def _settled(times: list[int]) -> bool:
    if len(times) < 2 * WINDOW:
        return False
    before = statistics.median(times[-2 * WINDOW : -WINDOW])
    after = statistics.median(times[-WINDOW:])
    return abs(after - before) <= WINDOW_AGREEMENT * before


def resume(
    call: Callable[[], object], clock: Clock, *, warm_ns: float, set_up: Callable[[], object] = lambda: None
) -> None:
    """Call until three calls in a row take at most a tenth longer than ``warm_ns``, for 15 to 60 ms."""
    began, as_warm = clock(), 0
    while True:
        as_warm = as_warm + 1 if _timed(call, clock, set_up) <= _AS_WARM * warm_ns else 0
        took = clock() - began
        if took >= MAX_RESUME_NS or (took >= RESUME_NS and as_warm >= _CALLS_AS_WARM):
            return


def calls_per_sample(call_ns: float, clock_resolution_ns: float) -> int:
    """Return the number of calls in a sample, so that it lasts at least 1 ms and 1000 ticks of the clock."""
    shortest = max(MIN_SAMPLE_NS, 1000 * clock_resolution_ns)
    return max(1, -(-int(shortest) // max(1, int(call_ns))))


def is_quicker_again(call: Callable[[], object], clock: Clock, freshen: Callable[[], object]) -> bool:
    """Whether a call with the previous call's inputs takes less than half as long, so that it may remember the result.

    The first call after the inputs were changed is a little slower for every implementation.
    """
    first: list[int] = []
    again: list[int] = []
    for _ in range(_TRIES):
        freshen()
        began = clock()
        call()
        once = clock()
        call()
        twice = clock()
        call()
        first.append(once - began)
        again.append(min(twice - once, clock() - twice))
    return min(first) > 2 * statistics.median(again) + _COLD_NS


def sample(
    call: Callable[[], object],
    clock: Clock,
    *,
    max_samples: int,
    max_ns: float,
    calls: int = 1,
    set_up: Callable[[], object] = lambda: None,
    freshen: Callable[[], object] = lambda: None,
    after: Callable[[object], object] = lambda result: None,
) -> tuple[list[float], object]:
    """Take samples, at least one, until there are enough or calls have taken long enough.

    Calls have taken long enough after ``max_ns``, or after :data:`MOST_BETWEEN_CALLS` times as long including the work
    between them. Three functions are not timed: ``freshen``, which changes the inputs; ``set_up``, which only samples
    of a single call may need; and ``after``, which receives the last call's result.

    Returns:
        Nanoseconds of one call for each sample, in order, and the last call's result.
    """
    samples: list[float] = []
    result: object = None
    spent = 0
    began = clock()
    while not samples or (
        len(samples) < max_samples and spent < max_ns and clock() - began < MOST_BETWEEN_CALLS * max_ns
    ):
        result = None  # the output of the last call is freed outside of the timed region
        freshen()
        set_up()
        start = clock()
        for _ in range(calls):
            result = call()
        elapsed = clock() - start
        samples.append(elapsed / calls)
        spent += elapsed
        after(result)
    return samples, result


def _timed(call: Callable[[], object], clock: Clock, set_up: Callable[[], object]) -> int:
    set_up()
    start = clock()
    call()
    return clock() - start
