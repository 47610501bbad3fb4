"""The stages of a cell on a device: what the worker's session asks for, put together from the parts beside this."""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING, Any

from attnbench.worker.cuda.extra_timings import graph_ns, input_sets, kernels, memory_of, wall_ns
from attnbench.worker.cuda.sampling import cold_samples
from attnbench.worker.timing import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.registry.operands import Operands
    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.timing import SamplingLimits

_ROTATED = ("q", "k", "v", "dout")


def time(
    call: Call,
    device: Accelerator,
    limits: SamplingLimits,
    *,
    refresh: Callable[[], object],
    flip_signs: Callable[[int], object],
) -> tuple[dict[str, Any], object]:
    """Warm up, give the inputs fresh values, and take cold samples.

    Returns:
        The record's fields and some of the runner's (``flip_index``, ``unusable``, ...), and the last result.
    """
    set_up = call.set_up if call.needs_set_up else None

    def call_and_wait() -> None:
        call.run()
        device.synchronize()

    def set_up_and_wait() -> None:
        call.set_up()
        device.synchronize()

    warmed = warm_up(call_and_wait, device.now_ns, set_up=set_up_and_wait if call.needs_set_up else None)
    enqueue_ns = _prepare_instruments(call, device, set_up)
    start = device.now_ns()
    refresh()
    refreshed = device.now_ns() - start
    gc.collect()
    gc.disable()
    try:
        found = cold_samples(call.run, device, limits, enqueue_ns=enqueue_ns, set_up=set_up, freshen=flip_signs)
    finally:
        gc.enable()
    fields = {
        **found.fields(),
        "warmup_calls": warmed.calls,
        "warmup_converged": warmed.converged,
        "warmup_ns": warmed.calls * warmed.call_ns,
        "calls_per_sample": 1,
        "refresh_ns": refreshed,
        "flip_index": len(found.ns) - 1,
        "unusable": found.unusable(),
    }
    return fields, found.result


def _prepare_instruments(call: Call, device: Accelerator, set_up: Callable[[], object] | None) -> float:
    """Use everything once that samples use, and see how long the host takes to queue a call."""
    device.flush_l2()
    device.block(1_000.0)
    device.condition()
    if set_up is not None:
        set_up()
    device.synchronize()
    start = device.now_ns()
    call.run()
    enqueue_ns = device.now_ns() - start
    device.synchronize()
    return float(enqueue_ns)


def further_times(call: Call, device: Accelerator, operands: Operands) -> dict[str, Any]:
    """The wall time, and the time in a graph, or why there is none. The inputs are left as they were."""
    start = device.now_ns()
    fields: dict[str, Any] = {
        "time_wall_ns": wall_ns(call.run, device, call.set_up if call.needs_set_up else None),
        "time_graph_ns": None,
        "graph_refused": None,
    }
    if call.case.mode == "backward":
        fields["graph_refused"] = "a backward pass needs the forward pass before it, which would be in the graph"
    else:
        try:
            fields["time_graph_ns"] = _rotated(call, device, operands)
        except Exception as error:  # noqa: BLE001 - whatever keeps CUDA from recording the call is the reason
            fields["graph_refused"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        finally:
            call.rebind(operands)
    return {**fields, "further_ns": device.now_ns() - start}


def _rotated(call: Call, device: Accelerator, operands: Operands) -> float:
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


def memory(call: Call, device: Accelerator) -> dict[str, Any]:
    """Memory of one call."""
    start = device.now_ns()
    found = memory_of(call.run, device, call.set_up if call.needs_set_up else None)
    return {**found, "memory_ns": device.now_ns() - start}


def backend(call: Call, device: Accelerator, said: str | None) -> dict[str, Any]:
    """The kernels that ran, behind what the implementation says of itself, and their time."""
    found = kernels(call.run, device, call.set_up if call.needs_set_up else None)
    names = found.pop("kernels") or ["no kernel was seen"]
    return {**found, "backend": "; ".join([*([said] if said else []), "kernels: " + ", ".join(names)])}
