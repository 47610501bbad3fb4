"""A CUDA device measured with torch and NVML."""

from __future__ import annotations

import contextlib
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.machine.hardware.devices import NoGPUError, nvml, visible_gpus
from attnbench.worker.cuda.device import Condition, KernelTime, MemoryState

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.worker.cuda.device import Event, Graph

# Bound before any plug-in is imported, like all clocks here.
_CLOCK = perf_counter_ns
_LEAST_FLUSH_BYTES = 64 * 2**20
_SMALL_BYTES, _SMALL_BLOCKS = 512 * 2**10, 64
_LARGE_BYTES = 64 * 2**20

# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
THROTTLE_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
}


def named_reasons(bits: int) -> tuple[str, ...]:
    """Return the names of NVML's reasons that hold a clock down, without idling and the user's settings."""
    return tuple(name for bit, name in THROTTLE_REASONS.items() if bits & bit)


class TorchEvent:
    """A CUDA event."""

    def __init__(self) -> None:
        import torch

        self._event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own lack

    def record(self) -> None:
        self._event.record()

    def passed(self) -> bool:
        return bool(self._event.query())

    def ns_until(self, later: Event) -> float:
        """Return the time between events, which torch reports in milliseconds."""
        assert isinstance(later, TorchEvent)
        return float(self._event.elapsed_time(later._event)) * 1e6  # noqa: SLF001 - of the same class


class TorchDevice:
    """The current CUDA device, the only one that a worker uses."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        size = max(2 * self.l2_bytes(), _LEAST_FLUSH_BYTES)
        self._junk: Any = None
        self._junk_bytes = size
        self._card = _Card(torch.cuda.current_device())

    def now_ns(self) -> int:
        return _CLOCK()

    def synchronize(self) -> None:
        """Wait for the device; raises the error of an earlier asynchronous launch."""
        self._torch.cuda.synchronize()

    def event(self) -> TorchEvent:
        return TorchEvent()

    def flush_l2(self) -> None:
        """Overwrite twice the cache's size."""
        if self._junk is None:
            self._junk = self._torch.empty(self._junk_bytes, dtype=self._torch.int8, device="cuda")
        self._junk.zero_()

    def block(self, ns: float) -> None:
        """Queue torch's kernel that spins for a number of cycles."""
        cycles = int(ns * (self.highest_sm_clock_mhz() or 2000) / 1000)
        self._torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - there is no public one

    def condition(self) -> Condition:
        """Return the card's state from NVML, which takes about ten microseconds."""
        return self._card.condition()

    def highest_sm_clock_mhz(self) -> int | None:
        return self._card.highest_mhz

    def l2_bytes(self) -> int:
        return int(self._properties.L2_cache_size)

    def free_bytes(self) -> int:
        """Return the free bytes of the device plus those that torch's allocator caches."""
        free = self._torch.cuda.mem_get_info()[0]
        return int(free + self._torch.cuda.memory_reserved() - self._torch.cuda.memory_allocated())

    def memory(self) -> MemoryState:
        """Return the state of torch's allocator and of the whole device."""
        cuda = self._torch.cuda
        free, total = cuda.mem_get_info()
        return MemoryState(
            allocated=cuda.memory_allocated(),
            reserved=cuda.memory_reserved(),
            used=total - free,
            peak_allocated=cuda.max_memory_allocated(),
            peak_reserved=cuda.max_memory_reserved(),
        )

    def forget_peaks(self) -> None:
        """Release cached blocks, so that later peaks of reserved memory are meaningful."""
        self._junk = None
        self._torch.cuda.empty_cache()
        self._torch.cuda.reset_peak_memory_stats()

    def poison(self, nbytes: int) -> None:
        """Fill blocks of the sizes of a call's outputs and workspaces with NaN, and return them to the allocator."""
        torch = self._torch
        sizes = [_SMALL_BYTES] * _SMALL_BLOCKS + [max(_LARGE_BYTES, 4 * nbytes)]
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            blocks = [torch.full((size,), 0xFF, dtype=torch.uint8, device="cuda") for size in sizes]
            del blocks

    def capture(self, work: Callable[[], object]) -> Graph:
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            work()
        replayed: Graph = graph
        return replayed

    def profile(self, work: Callable[[], object]) -> list[KernelTime]:
        """Use torch's profiler, which is based on CUPTI."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            work()
            self.synchronize()
        kinds = ("memcpy", "memset")
        events = [event for event in profiler.events() or [] if str(event.device_type).endswith("CUDA")]
        seen = [KernelTime(str(event.name), float(event.time_range.elapsed_us()) * 1e3) for event in events]
        return [kernel for kernel in seen if not kernel.name.lower().startswith(kinds)]


class _Card:
    """A card in NVML, which stays open; without NVML, everything about it is unknown."""

    def __init__(self, index: int) -> None:
        self._library: Any = None
        self.highest_mhz: int | None = None
        try:
            with nvml() as library:
                library.nvmlInit()  # a second reference, so that NVML stays open until the process ends
                self._handle = visible_gpus(library)[index]
                self.highest_mhz = int(library.nvmlDeviceGetMaxClockInfo(self._handle, library.NVML_CLOCK_SM))
                self._library = library
        except (NoGPUError, IndexError):
            return

    def condition(self) -> Condition:
        library = self._library
        if library is None:
            return Condition(None, ())
        try:
            clock = int(library.nvmlDeviceGetClockInfo(self._handle, library.NVML_CLOCK_SM))
            bits = int(library.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except library.NVMLError:
            return Condition(None, ())
        return Condition(clock, named_reasons(bits))
