"""Cold-L2 device time, launch excluded: the number that implementations are compared by.

For each sample: fresh values; the cache flushed; then something that only takes time is queued, and behind it a mark,
the call, and another mark. While the device is held up the host queues the call, so what lies between the marks is the
device's work alone. Whether it was held up long enough is checked: if the first mark had been passed before the second
one was queued, launching is part of the time, so the sample is taken again, held up for longer.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
from typing import TYPE_CHECKING, Any

from attnbench.metrics.median import median_interval
from attnbench.worker.timing import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator, Condition
    from attnbench.worker.timing import SamplingLimits, Warmup

TARGET_HALF_WIDTH = 0.005
"""Relative half-width of the median's 95 % interval at which sampling ends."""
SHORTEST_BLOCK_NS = 50_000.0
LONGEST_BLOCK_NS = 100_000_000.0
MOST_TRIES = 8
"""Each holds the device up for twice as long: beyond, the call waits for the device itself."""
LOW_CLOCK = 0.75
"""Share of the highest SM clock below which a sample is tagged (nvbench discards there)."""
POWER = "sw_power_cap"
"""The power limit is not interference: a kernel that draws all that the card may draw does so every time."""
MOST_TAGGED = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColdSamples:
    """Samples in order, none dropped, and what is known of each."""

    ns: list[float]
    """Device time of a call."""
    enqueue_ns: list[float]
    """How long the host took to queue it."""
    clocks_mhz: list[int | None]
    tags: list[str | None]
    """A physical cause that disturbed a sample, or ``None``."""
    throttled_by: tuple[str, ...]
    """All reasons that were seen."""
    queued_ahead: bool
    """Whether every call was queued before the device came to it; if not, times contain launching."""
    result: object
    """The result of the last call."""

    def fields(self) -> dict[str, Any]:
        """Return the values as a record spells them."""
        enqueue = statistics.median(self.enqueue_ns)
        return {
            "time_samples_ns": self.ns,
            "time_sample_tags": self.tags if any(self.tags) else None,
            "host_enqueue_ns": enqueue,
            "launch_bound": not self.queued_ahead or enqueue > statistics.median(self.ns),
            "sm_clock_mhz": None if None in self.clocks_mhz else self.clocks_mhz,
            "throttled_by": self.throttled_by,
            "time_method": method(queued_ahead=self.queued_ahead),
            "cache_state": "cold",
        }

    def unusable(self) -> str | None:
        """Why these samples say nothing of the implementation, or ``None``."""
        tagged = [tag for tag in self.tags if tag]
        if len(tagged) <= MOST_TAGGED * len(self.tags):
            return None
        causes = ", ".join(sorted(set(tagged)))
        return f"{len(tagged)} of {len(self.tags)} samples were disturbed: {causes}"


def method(*, queued_ahead: bool) -> str:
    """How the time was taken, for the record."""
    launch = "launch queued ahead" if queued_ahead else "launch included: the call waits for the device"
    return f"CUDA events, L2 flushed, {launch}"


def cold_samples(
    call: Callable[[], object],
    device: Accelerator,
    limits: SamplingLimits,
    *,
    enqueue_ns: float,
    set_up: Callable[[], object] = lambda: None,
    freshen: Callable[[], object] = lambda: None,
) -> ColdSamples:
    """Take samples until the median is known to 0.5 % on either side, or a limit is reached.

    ``limits.sampling_ns`` counts the whole of it, flushing and holding up included; ``set_up`` and ``freshen``, which
    changes the inputs before it, are not timed. Queueing takes about ``enqueue_ns``.
    """
    start, end = device.event(), device.event()
    highest = device.highest_sm_clock_mhz()
    found = ColdSamples(ns=[], enqueue_ns=[], clocks_mhz=[], tags=[], throttled_by=(), queued_ahead=True, result=None)
    block_ns = min(max(SHORTEST_BLOCK_NS, 3 * enqueue_ns), LONGEST_BLOCK_NS)
    reasons: dict[str, None] = {}
    queued_ahead, result = True, None
    began = device.now_ns()
    while len(found.ns) < limits.max_samples:
        result = None  # the last output is given back outside of what is timed
        freshen()
        tries = MOST_TRIES if queued_ahead else 1
        for attempt in range(tries):
            result = None
            set_up()
            device.synchronize()
            device.flush_l2()
            device.block(block_ns)
            start.record()
            before = device.now_ns()
            result = call()
            enqueued = device.now_ns() - before
            in_time = not start.passed()
            end.record()
            condition = device.condition()  # while the device works
            device.synchronize()
            if in_time or attempt == tries - 1:
                break
            block_ns = min(2 * block_ns, LONGEST_BLOCK_NS)
        queued_ahead = queued_ahead and in_time
        found.ns.append(start.ns_until(end))
        found.enqueue_ns.append(float(enqueued))
        found.clocks_mhz.append(condition.sm_clock_mhz)
        found.tags.append(tag(condition, highest))
        reasons.update(dict.fromkeys(condition.throttled_by))
        if len(found.ns) >= limits.min_samples and _narrow(found.ns):
            break
        if device.now_ns() - began >= limits.sampling_ns and len(found.ns) >= min(3, limits.min_samples):
            break
    return dataclasses.replace(found, throttled_by=tuple(reasons), queued_ahead=queued_ahead, result=result)


def warmed_samples(
    call: Call,
    device: Accelerator,
    limits: SamplingLimits,
    *,
    refresh: Callable[[], object],
    freshen: Callable[[], object],
) -> tuple[Warmup, ColdSamples]:
    """Warm up, give the inputs fresh values, and take cold samples."""

    def call_and_wait() -> None:
        call.run()
        device.synchronize()

    def set_up_and_wait() -> None:
        call.set_up()
        device.synchronize()

    warmed = warm_up(call_and_wait, device.now_ns, set_up=set_up_and_wait)
    enqueue_ns = _prepare_instruments(call, device)
    refresh()
    gc.collect()
    gc.disable()
    try:
        found = cold_samples(call.run, device, limits, enqueue_ns=enqueue_ns, set_up=call.set_up, freshen=freshen)
    finally:
        gc.enable()
    return warmed, found


def _prepare_instruments(call: Call, device: Accelerator) -> float:
    """Use everything once that samples use, and see how long the host takes to queue a call."""
    device.flush_l2()
    device.block(1_000.0)
    device.condition()
    call.set_up()
    device.synchronize()
    start = device.now_ns()
    call.run()
    enqueue_ns = device.now_ns() - start
    device.synchronize()
    return float(enqueue_ns)


def tag(condition: Condition, highest_mhz: int | None) -> str | None:
    """The disturbance of a sample, or ``None``.

    Heat and the board's emergency brakes always do; a low clock does, unless the power limit explains it.
    """
    causes = [cause for cause in condition.throttled_by if cause != POWER]
    if causes:
        return "throttled: " + " ".join(causes)
    clock = condition.sm_clock_mhz
    if clock is not None and highest_mhz and clock < LOW_CLOCK * highest_mhz and POWER not in condition.throttled_by:
        return f"SM clock below {LOW_CLOCK:.0%} of its highest"
    return None


def _narrow(samples: list[float]) -> bool:
    interval = median_interval(samples)
    return interval is not None and (interval[1] - interval[0]) / 2 <= TARGET_HALF_WIDTH * statistics.median(samples)
