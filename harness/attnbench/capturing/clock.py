"""Times calls: by the wall clock on a CPU, by events on a GPU, where calls only queue work."""

from __future__ import annotations

import time

import torch


class Moment:
    """A point in time of the thread or of a device's stream."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record()
        self._ns = time.perf_counter_ns()

    def seconds_since(self, earlier: Moment) -> float:
        """Return the seconds since an earlier moment; waits for the device."""
        if self._event is not None and earlier._event is not None:
            self._event.synchronize()
            return float(earlier._event.elapsed_time(self._event)) / 1e3
        return (self._ns - earlier._ns) / 1e9


def wait_for_devices() -> None:
    """Wait until all work queued on a GPU is done."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
