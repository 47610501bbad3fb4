"""The interface of a device for measurements, implemented by ``torch_device.py`` and by an exact fake in tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Event(Protocol):
    """A mark in the device's queue of work."""

    def record(self) -> None:
        """Queue the mark after the work that is queued so far."""

    def passed(self) -> bool:
        """Whether the device has passed the mark."""

    def ns_until(self, later: Event) -> float:
        """Return the device time from this mark to a later one; both must have been passed."""


class Graph(Protocol):
    """Recorded work that can be queued as a whole."""

    def replay(self) -> None:
        """Queue all of it."""


@dataclasses.dataclass(frozen=True)
class KernelTime:
    """A kernel that ran, as reported by the profiler."""

    name: str
    ns: float


@dataclasses.dataclass(frozen=True)
class Condition:
    """The state of a card at one moment; ``None`` is unknown."""

    sm_clock_mhz: int | None
    throttled_by: tuple[str, ...]
    """Reasons why its clock is held down, with NVML's names: ``sw_power_cap``, ``hw_slowdown``, ``sw_thermal``, ..."""


@dataclasses.dataclass(frozen=True)
class MemoryState:
    """Bytes of memory at one moment."""

    allocated: int
    """Bytes in tensors."""
    reserved: int
    """Bytes that torch's allocator has taken from the device."""
    used: int
    """Bytes used on the whole device, by all processes."""
    peak_allocated: int
    """The highest ``allocated`` since :meth:`Accelerator.forget_peaks`."""
    peak_reserved: int


class Accelerator(Protocol):
    """A CUDA device, and the stream on which calls are queued."""

    def now_ns(self) -> int:
        """Return the host's clock in nanoseconds."""

    def synchronize(self) -> None:
        """Wait until the device has done all queued work."""

    def event(self) -> Event:
        """Return a new mark."""

    def flush_l2(self) -> None:
        """Queue writes to more memory than the last-level cache holds, which evict everything else from it."""

    def block(self, ns: float) -> None:
        """Queue work that only takes time."""

    def condition(self) -> Condition:
        """Return the current clock and throttling."""

    def highest_sm_clock_mhz(self) -> int | None:
        """Return the highest SM clock of the card."""

    def l2_bytes(self) -> int:
        """Return the size of the last-level cache."""

    def free_bytes(self) -> int:
        """Return the bytes of memory that are free."""

    def memory(self) -> MemoryState:
        """Return the state of memory."""

    def forget_peaks(self) -> None:
        """Release cached memory, and reset the peaks."""

    def poison(self, nbytes: int) -> None:
        """Fill the memory that torch's allocator will hand out next with NaN, for a call that returns ``nbytes``."""

    def capture(self, work: Callable[[], object]) -> Graph:
        """Record work without running it; raises CUDA's error if the work cannot be recorded."""

    def profile(self, work: Callable[[], object]) -> list[KernelTime]:
        """Run work, wait for it, and return the kernels that ran, in order."""
