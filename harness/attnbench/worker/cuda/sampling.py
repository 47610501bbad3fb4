"""Device time with a cold L2 cache and without the launch: the time by which implementations are compared.

For each sample, the inputs get fresh values and the cache is flushed. Then the host queues work that only takes time, a
mark, the call, and another mark. The device is blocked while the host queues the call, so the time between the marks is
the device's work alone. If the device passed the first mark before the second was queued, the time contains the launch,
and the sample is repeated with a longer block.
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
"""Sampling ends at this relative half-width of the median's 95 % interval."""
SHORTEST_BLOCK_NS = 50_000.0
LONGEST_BLOCK_NS = 100_000_000.0
MOST_TRIES = 8
"""Each try doubles the block; a call that still needs longer waits for the device itself."""
LOW_CLOCK = 0.75
"""A sample is tagged below this share of the highest SM clock (nvbench discards it there)."""
POWER = "sw_power_cap"
"""The power limit is not a disturbance: a kernel that draws the maximum power does so every time."""
MOST_TAGGED = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColdSamples:
    """Samples in order, none dropped, with the conditions of each."""

    ns: list[float]
    """Device time of a call."""
    enqueue_ns: list[float]
    """The host's time to queue the call."""
    clocks_mhz: list[int | None]
    tags: list[str | None]
    """The physical cause that disturbed each sample, or ``None``."""
    throttled_by: tuple[str, ...]
    """All reasons that were seen."""
    queued_ahead: bool
    """Whether every call was queued before the device reached it; if not, times contain launches."""
    result: object
    """The result of the last call."""

    def fields(self) -> dict[str, Any]:
        """Return the values as fields of a record."""
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
        """Return why these samples do not measure the implementation, or ``None``."""
        tagged = [tag for tag in self.tags if tag]
        if len(tagged) <= MOST_TAGGED * len(self.tags):
            return None
        causes = ", ".join(sorted(set(tagged)))
        return f"{len(tagged)} of {len(self.tags)} samples were disturbed: {causes}"


def method(*, queued_ahead: bool) -> str:
    """Return the method of timing, for the record."""
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
    """Take samples until the median is known within 0.5 % on either side, or a limit is reached.

    ``limits.sampling_ns`` includes flushing and blocking. ``freshen`` changes the inputs before each sample, and
    ``set_up`` precedes each call; neither is timed. Queueing a call takes about ``enqueue_ns``.
    """
    start, end = device.event(), device.event()
    highest = device.highest_sm_clock_mhz()
    found = ColdSamples(ns=[], enqueue_ns=[], clocks_mhz=[], tags=[], throttled_by=(), queued_ahead=True, result=None)
    block_ns = min(max(SHORTEST_BLOCK_NS, 3 * enqueue_ns), LONGEST_BLOCK_NS)
    reasons: dict[str, None] = {}
    queued_ahead, result = True, None
    began = device.now_ns()
    while len(found.ns) < limits.max_samples:
        result = None  # the last output is freed outside of the timed region
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
    """Use each instrument once before samples are taken, and return the host's time to queue a call."""
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
    """Return the disturbance of a sample, or ``None``.

    Heat and the board's emergency brakes always count; a low clock counts unless the power limit explains it.
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
