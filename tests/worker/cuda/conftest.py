"""A fake CUDA device: host, queue, cache, clock and memory are exact numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from attnbench.worker.cuda.device import Condition, KernelTime, MemoryState

US = 1_000.0
MS = 1_000_000.0


class FakeEvent:
    """A mark in the fake queue."""

    def __init__(self, device: FakeDevice) -> None:
        self.device, self.at = device, 0.0

    def record(self) -> None:
        self.at = max(self.device.now, self.device.free_at)

    def passed(self) -> bool:
        return self.at <= self.device.now

    def ns_until(self, later: Any) -> float:
        assert later.passed(), "the time between two marks is known once the device has come by both"
        return float(later.at - self.at)


@dataclasses.dataclass
class FakeDevice:
    """A device that does queued work in order; a kernel is faster if its inputs are in the cache."""

    cold_ns: float = 40 * US
    warm_ns: float = 25 * US
    enqueue_ns: float = 10 * US
    """Host time to queue a call, ns."""
    l2: int = 50 * 2**20
    free: int = 10 * 2**30
    highest_mhz: int | None = 1980
    conditions: list[Condition] = dataclasses.field(default_factory=lambda: [Condition(1980, ())])
    """Conditions by sample; the last one is repeated."""
    recordable: bool = True

    now: float = 0.0
    free_at: float = 0.0
    cached: bool = False
    log: list[str] = dataclasses.field(default_factory=list)
    allocated: int = 1000
    reserved: int = 2 * 2**20
    outside: int = 0
    peaks: tuple[int, int] = (0, 0)
    poisoned: list[int] = dataclasses.field(default_factory=list)
    _capturing: list[float] | None = None

    def launch(self, *, waits: bool = False, names: tuple[str, ...] = ("flash_fwd",)) -> None:
        """Simulate a call: the host queues a kernel, and may wait for it."""
        took = self.warm_ns if self.cached else self.cold_ns
        if self._capturing is not None:
            if waits:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
            self._capturing.append(took)
            return
        self.log.append("call")
        self.now += self.enqueue_ns
        self._queue(took)
        self.cached = True
        self.last_kernels = [KernelTime(name, took / len(names)) for name in names]
        if waits:
            self.synchronize()

    def allocate(self, nbytes: int) -> None:
        """Allocate a tensor."""
        self.allocated += nbytes
        self.reserved = max(self.reserved, self.allocated)
        self.peaks = (max(self.peaks[0], self.allocated), max(self.peaks[1], self.reserved))

    def _queue(self, ns: float) -> None:
        self.free_at = max(self.free_at, self.now) + ns

    def now_ns(self) -> int:
        return int(self.now)

    def synchronize(self) -> None:
        self.now = max(self.now, self.free_at)

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def flush_l2(self) -> None:
        self.log.append("flush")
        self.cached = False
        self._queue(20 * US)

    def block(self, ns: float) -> None:
        self.log.append("block")
        self._queue(ns)

    def condition(self) -> Condition:
        one = self.conditions[0]
        if len(self.conditions) > 1:
            self.conditions.pop(0)
        return one

    def highest_sm_clock_mhz(self) -> int | None:
        return self.highest_mhz

    def l2_bytes(self) -> int:
        return self.l2

    def free_bytes(self) -> int:
        return self.free

    def memory(self) -> MemoryState:
        return MemoryState(self.allocated, self.reserved, self.reserved + self.outside, *self.peaks)

    def forget_peaks(self) -> None:
        self.reserved = self.allocated
        self.peaks = (self.allocated, self.reserved)

    def poison(self, nbytes: int) -> None:
        self.poisoned.append(nbytes)

    def capture(self, work: Callable[[], object]) -> Any:
        if not self.recordable:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self._capturing = []
        try:
            work()
            recorded = self._capturing
        finally:
            self._capturing = None
        device = self

        class Graph:
            def replay(self) -> None:
                device.log.append(f"replay of {len(recorded)}")
                device.now += 5 * US
                device._queue(sum(recorded))

        return Graph()

    def profile(self, work: Callable[[], object]) -> list[KernelTime]:
        work()
        self.synchronize()
        return self.last_kernels


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()
