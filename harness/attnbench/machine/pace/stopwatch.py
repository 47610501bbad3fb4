"""Time of a call in the probe: by the clock on the CPU, by events on a CUDA device.

The fastest of several calls counts, as in STREAM (McCalpin 1995): a peak is the most that the machine can do, and
disturbances only make a call slower. Workers time calls in their own, more careful way.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_BUSY_NS = 50_000_000
"""Time after which a busy GPU has raised its clocks."""


def fastest_ns(call: Callable[[], object], device: str, repeats: int) -> float:
    """Return the time in ns of the fastest of several calls on ``cpu`` or ``cuda``, after warming up."""
    if device == "cpu":
        return _fastest_on_host(call, repeats)
    import torch

    return fastest_on_device(call, repeats, torch.cuda)


def fastest_on_device(call: Callable[[], object], repeats: int, cuda: Any) -> float:
    """Return the shortest time in ns between two events around a call.

    ``cuda`` is ``torch.cuda``, or a replacement in tests.
    """
    began = perf_counter_ns()
    while perf_counter_ns() - began < _BUSY_NS:
        call()
        cuda.synchronize()
    events = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in events:
        start.record()
        call()
        end.record()
    cuda.synchronize()
    milliseconds: list[float] = [start.elapsed_time(end) for start, end in events]
    return min(milliseconds) * 1e6


def _fastest_on_host(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - start)
    return min(times)
