"""Median time of a call in the probe: by the clock on the CPU, by events on a CUDA device.

The workers have their own, more careful way; a peak only needs calls that take milliseconds.
"""

from __future__ import annotations

import statistics
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_BUSY_NS = 50_000_000
"""How long a GPU must be busy before its clocks have risen."""


def median_ns(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a call on ``cpu`` or ``cuda``, after warming up."""
    if device == "cpu":
        return _median_on_host(call, repeats)
    import torch

    return median_on_device(call, repeats, torch.cuda)


def median_on_device(call: Callable[[], object], repeats: int, cuda: Any) -> float:
    """Median time between two events around a call.

    Args:
        call: puts work on the current stream.
        repeats: how many times are taken.
        cuda: ``torch.cuda``, or what stands for it.
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
    return statistics.median(milliseconds) * 1e6


def _median_on_host(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - start)
    return statistics.median(times)
