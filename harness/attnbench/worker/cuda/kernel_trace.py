"""Kernels of a few calls with their times and launch gaps, from the trace that torch.profiler exports.

Tested with a hand-written trace in the format of torch 2.13, without a GPU.
"""

from __future__ import annotations

import collections
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.profiling.parts import KernelOfCall, KernelsOfCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CALLS = 10
_WARM_UP = 3
RANGE = "attnbench call"
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver")
_MOST_KERNELS = 50


def trace_kernels(run: Callable[[], object], set_up: Callable[[], object]) -> KernelsOfCall:
    """Make calls, each in an NVTX range, and return what ran on the device.

    Raises:
        Exception: an error of torch.profiler or CUDA.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    for _ in range(_WARM_UP):
        set_up()
        run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as taken:
        for _ in range(CALLS):
            set_up()
            torch.cuda.synchronize()
            with torch.cuda.nvtx.range(RANGE), torch.profiler.record_function(RANGE):
                run()
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        path = Path(folder) / "trace.json"
        taken.export_chrome_trace(str(path))
        return kernels_of(json.loads(path.read_text("utf-8")))


def kernels_of(trace: Mapping[str, Any]) -> KernelsOfCall:
    """Return the kernels and copies that ran on the device for each marked call, and the idle time between them.

    Args:
        trace: Chrome trace events as torch.profiler exports them; times in microseconds.

    Raises:
        ValueError: the trace has no marked call.
    """
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    calls = [one for one in events if one["name"] == RANGE and one["cat"] == "user_annotation"]
    if not calls:
        raise ValueError("no call is marked in the trace")
    launched = {
        one["args"]["correlation"]: one["ts"]
        for one in events
        if one["cat"] in _LAUNCHES and any(call["ts"] <= one["ts"] <= call["ts"] + call["dur"] for call in calls)
    }
    ran = sorted(
        (one for one in events if one["cat"] in _ON_DEVICE and one["args"].get("correlation") in launched),
        key=lambda one: float(one["ts"]),
    )
    total: collections.Counter[str] = collections.Counter()
    count: collections.Counter[str] = collections.Counter()
    busy = gaps = waits = 0.0
    end, of_call = 0.0, -1
    for one in ran:
        start, launch = one["ts"], launched[one["args"]["correlation"]]
        number = max(place for place, call in enumerate(calls) if call["ts"] <= launch)
        if number == of_call:
            gaps += max(0.0, start - end)
        else:
            waits += max(0.0, start - launch)
            end, of_call = start, number
        busy += max(0.0, start + one["dur"] - max(start, end))
        end = max(end, start + one["dur"])
        total[one["name"]] += one["dur"]
        count[one["name"]] += 1
    scale = 1e3 / len(calls)
    return KernelsOfCall(
        calls=len(calls),
        busy_ns=busy * scale,
        gaps_ns=gaps * scale,
        first_launch_ns=waits * scale,
        kernels=tuple(
            KernelOfCall(name=name, launches=count[name] / len(calls), ns=us * scale)
            for name, us in total.most_common(_MOST_KERNELS)
        ),
    )
