"""The other times of a call, and its memory: measured apart from the cold samples, which they would disturb."""

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
"""Seconds' worth of calls after which no further one is made for the wall time."""
REPLAYS = 10
GRAPH_BLOCK_NS = 100_000.0
"""How long the device is held up while the host queues a graph."""
CACHES_FULL = 5
"""How many last-level caches the rotated inputs fill, so that none is found there when its turn comes again."""
MOST_SETS = 32
FREE_SHARE = 0.25
"""The share of free memory that copies of inputs may take."""
_ROTATED = ("q", "k", "v", "dout")
MEMORY_METHOD = "torch's allocator: highest in tensors during a call, less what was there before"


def wall_ns(call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None) -> float:
    """Median of the host's time from the call to the end of its work: the number to compare with a CPU's."""
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
    """How many sets of inputs are rotated: enough to fill the cache some times over, as far as there is memory."""
    wanted = -(-CACHES_FULL * device.l2_bytes() // max(1, input_bytes))
    affordable = int(FREE_SHARE * device.free_bytes()) // max(1, input_bytes)
    return max(1, min(wanted, affordable, MOST_SETS))


def graph_ns(calls: Sequence[Callable[[], object]], device: Accelerator) -> float:
    """Time of one call when all of them are replayed from a graph: neither launches nor gaps between them.

    Each call is the same one on other memory.

    Raises:
        Exception: what CUDA says where a call cannot be recorded (it waits for the device, allocates outside torch).
    """

    def work() -> None:
        for call in calls:
            call()

    work()  # whatever a first call on this memory sets up
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
    """:func:`graph_ns` on as many sets of inputs as it takes; the caller must bind its own inputs again."""
    size = sum(_nbytes(getattr(operands, name)) for name in _ROTATED if getattr(operands, name) is not None)
    sets = [operands, *(twin(operands) for _ in range(input_sets(size, device) - 1))]

    def on(one: Operands) -> Callable[[], object]:
        def run() -> object:
            call.rebind(one)
            return call.run()

        return run

    return graph_ns([on(one) for one in sets], device)


def twin(operands: Operands) -> Operands:
    """The same values in other memory that lies in the same way: strides, and what is around slices, included."""
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
    """Which kernels a call runs, and their times, as the profiler sees it."""
    set_up()
    device.synchronize()
    return device.profile(call)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallMemory:
    """Memory of one call, in bytes above what was there before it: inputs are not counted."""

    peak: int
    """Highest in tensors."""
    reserved: int
    """Highest that the allocator took from the device."""
    device: int
    """The loss of the whole device from before the call to after it: a kernel that allocates by itself shows here."""
    resolution: int = 0
    """The peak that an empty call reads."""


def memory_of(
    call: Callable[[], object], device: Accelerator, set_up: Callable[[], object] = lambda: None
) -> CallMemory:
    """Make a call, and see what it takes."""
    _reading(call, device, set_up)  # workspaces that libraries keep for ever exist from here on
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
