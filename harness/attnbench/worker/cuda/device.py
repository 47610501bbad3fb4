"""A device as measuring sees it. The real one is ``torch_device.py``; tests have one whose numbers are exact."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Event(Protocol):
    """A mark in the device's queue of work."""

    def record(self) -> None:
        """Put the mark behind what was queued so far."""

    def passed(self) -> bool:
        """Whether the device has come by already."""

    def ns_until(self, later: Event) -> float:
        """Device time from this mark to another one; both have been passed."""


class Graph(Protocol):
    """Work that was recorded once and can be queued as a whole."""

    def replay(self) -> None:
        """Queue it all."""


@dataclasses.dataclass(frozen=True)
class KernelTime:
    """A kernel that ran, as the profiler saw it."""

    name: str
    ns: float


@dataclasses.dataclass(frozen=True)
class Condition:
    """In what state a card is at a moment; ``None`` is what it does not tell."""

    sm_clock_mhz: int | None
    throttled_by: tuple[str, ...]
    """Why its clock is held down, in NVML's words: ``sw_power_cap``, ``hw_slowdown``, ``sw_thermal``, ..."""


@dataclasses.dataclass(frozen=True)
class MemoryState:
    """Bytes at a moment."""

    allocated: int
    """In tensors."""
    reserved: int
    """The bytes that torch's allocator has taken from the device."""
    used: int
    """Used on the whole device, by all processes."""
    peak_allocated: int
    """Highest ``allocated`` since :meth:`Accelerator.forget_peaks`."""
    peak_reserved: int


class Accelerator(Protocol):
    """One CUDA device, and the stream that calls are put on."""

    def now_ns(self) -> int:
        """The host's clock."""

    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    def event(self) -> Event:
        """A new mark."""

    def flush_l2(self) -> None:
        """Queue writes to more memory than the last-level cache holds, so that nothing else stays in it."""

    def block(self, ns: float) -> None:
        """Queue something that only takes time."""

    def condition(self) -> Condition:
        """Clock and throttling now."""

    def highest_sm_clock_mhz(self) -> int | None:
        """The peaks of the card."""

    def l2_bytes(self) -> int:
        """Size of the last-level cache."""

    def free_bytes(self) -> int:
        """Memory that is left."""

    def memory(self) -> MemoryState:
        """The state of memory."""

    def forget_peaks(self) -> None:
        """Give back what is cached and begin new peaks."""

    def poison(self, nbytes: int) -> None:
        """Make the memory that torch's allocator hands out next hold NaN, for a call that returns ``nbytes``."""

    def capture(self, work: Callable[[], object]) -> Graph:
        """Record work without doing it; raises what CUDA says where the work cannot be recorded."""

    def profile(self, work: Callable[[], object]) -> list[KernelTime]:
        """Do work, wait for it, and tell the kernels that ran, in order."""
