"""Other times of a call, and its memory; measured separately from the cold samples, which they would disturb."""

from __future__ import annotations

import dataclasses
import gc
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.registry.operands import Operands
    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator, KernelTime

WALL_CALLS = 20
WALL_NS = 500_000_000
"""No further call is made for the wall time once calls have taken this long."""
REPLAYS = 10
GRAPH_BLOCK_NS = 100_000.0
"""How long the device is blocked while the host queues a graph."""
CACHES_FULL = 5
"""Rotated inputs fill this many last-level caches, so that a set has been evicted when it is used again."""
MOST_SETS = 32
FREE_SHARE = 0.25
"""The share of free memory that copies of inputs may take."""
_ROTATED = ("q", "k", "v", "dout")
MEMORY_METHOD = "torch's allocator: highest in tensors during a call, less what was there before"


def wall_ns(call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None) -> float:
    """Return the median wall time from a call to the end of its work, which is comparable with a CPU's time."""
    samples: list[int] = []
    while len(samples) < WALL_CALLS and (len(samples) < 3 or sum(samples) < WALL_NS):
        set_up()
        device.synchronize()
        start = device.now_ns()
        call()
        device.synchronize()
        samples.append(device.now_ns() - start)
    return statistics.median(samples)


def input_sets(input_bytes: int, device: Accelerator) -> int:
    """Return the number of rotated sets of inputs: enough to fill the cache several times, if memory allows."""
    wanted = -(-CACHES_FULL * device.l2_bytes() // max(1, input_bytes))
    affordable = int(FREE_SHARE * device.free_bytes()) // max(1, input_bytes)
    return max(1, min(wanted, affordable, MOST_SETS))


def graph_ns(calls: Sequence[Callable[[], object]], device: Accelerator) -> float:
    """Return the time of one call when all of them are replayed from a graph, without launches and gaps.

    The calls are the same call on different memory.

    Raises:
        Exception: CUDA's error if a call cannot be recorded (it waits for the device, allocates outside torch).
    """

    def work() -> None:
        for call in calls:
            call()

    work()  # for anything that a first call on this memory sets up
    device.synchronize()
    graph = device.capture(work)
    start, end = device.event(), device.event()
    graph.replay()
    samples = []
    for _ in range(REPLAYS):
        device.synchronize()
        device.block(GRAPH_BLOCK_NS)
        start.record()
        graph.replay()
        end.record()
        device.synchronize()
        samples.append(start.ns_until(end) / len(calls))
    return statistics.median(samples)


def rotated_graph_ns(call: Call, device: Accelerator, operands: Operands) -> float:
    """Measure :func:`graph_ns` on rotated sets of inputs; the caller must rebind its own inputs afterwards."""
    size = sum(_nbytes(getattr(operands, name)) for name in _ROTATED if getattr(operands, name) is not None)
    sets = [operands, *(twin(operands) for _ in range(input_sets(size, device) - 1))]

    def on(one: Operands) -> Callable[[], object]:
        def run() -> object:
            call.rebind(one)
            return call.run()

        return run

    return graph_ns([on(one) for one in sets], device)


def twin(operands: Operands) -> Operands:
    """Copy operands to other memory with the same values and strides, including the memory around slices."""
    import torch

    def other(tensor: Any) -> Any:
        copied = tensor.untyped_storage().clone()
        empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return empty.set_(copied, tensor.storage_offset(), tensor.shape, tensor.stride())

    present = [name for name in _ROTATED if getattr(operands, name) is not None]
    return dataclasses.replace(operands, **{name: other(getattr(operands, name)) for name in present})


def _nbytes(tensor: Any) -> int:
    return int(tensor.untyped_storage().nbytes())


def kernels(
    call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None
) -> list[KernelTime]:
    """Return the kernels that a call runs, with their times from the profiler."""
    set_up()
    device.synchronize()
    return device.profile(call)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallMemory:
    """Memory of one call in bytes, above what was allocated before it; inputs are not counted."""

    peak: int
    """The highest number of bytes in tensors."""
    reserved: int
    """The highest number of bytes that the allocator took from the device."""
    device: int
    """Bytes that the whole device lost during the call, which include memory that a kernel allocates by itself."""
    resolution: int = 0
    """The peak that is read for an empty call."""


def memory_of(
    call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None
) -> CallMemory:
    """Make a call, and return the memory that it takes."""
    _reading(call, device, set_up)  # libraries allocate their permanent workspaces here
    resolution = _reading(lambda: None, device).peak
    return dataclasses.replace(_reading(call, device, set_up), resolution=resolution)


def _reading(
    call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None
) -> CallMemory:
    set_up()
    gc.collect()
    device.synchronize()
    device.forget_peaks()
    before = device.memory()
    result = call()
    device.synchronize()
    after = device.memory()
    del result
    return CallMemory(
        peak=max(0, after.peak_allocated - before.allocated),
        reserved=max(0, after.peak_reserved - before.reserved),
        device=max(0, after.used - before.used),
    )
