"""Checks of a call's conduct: it must not return or overwrite its inputs, nor continue after it returned."""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

# Bound before any plug-in is imported, so that a plug-in that replaces these functions changes nothing here.
from numpy import ascontiguousarray

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnbench.registry.operands import Operands, Tensor
    from attnbench.worker.dump import Outputs

_crc32 = zlib.crc32


class MisconductError(Exception):
    """A call's conduct makes its result worthless: the cell is ``wrong``."""


def require_tensors(outputs: Outputs, framework: str, device: str) -> None:
    """Raise unless all results are plain tensors, which exist when a call returns and are not computed later.

    Raises:
        MisconductError: one is of another type, form or device.
    """
    for name, tensor in outputs.items():
        kind = type(tensor)
        if framework == "torch":
            import torch

            if kind is not torch.Tensor:
                raise MisconductError(f"the call returned {kind.__name__} as {name}, not a torch.Tensor")
            if form := _unusual_form(tensor):
                raise MisconductError(f"the call returned {form} as {name}, not a dense one")
            if tensor.device.type != device:
                raise MisconductError(f"the call returned {name} on the device {tensor.device}, not on {device}")
        elif framework == "numpy" and kind is not np.ndarray:
            raise MisconductError(f"the call returned {kind.__name__} as {name}, not a numpy.ndarray")


def _unusual_form(tensor: Any) -> str | None:
    """Describe the form of a torch tensor whose values are not stored one by one; ``None`` for a plain tensor."""
    if tensor.is_nested:
        return "a nested tensor"
    if str(tensor.layout) != "torch.strided":
        return f"a tensor of the layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_neg() or tensor.is_conj():
        return "a tensor that is not negated or conjugated yet"
    return None


def require_own_memory(outputs: Outputs, others: Mapping[str, Tensor], whose: str) -> None:
    """Raise if an output is in the memory of another tensor.

    ``whose`` describes the owner of ``others`` in the message.

    Raises:
        MisconductError: an output is.
    """
    taken = {name: extent for name, tensor in others.items() if (extent := _extent(tensor)) is not None}
    for name, tensor in outputs.items():
        extent = _extent(tensor)
        if extent is None:
            continue
        for other, (begin, end) in taken.items():
            if extent[0] < end and begin < extent[1]:
                raise MisconductError(f"{name} lies in the memory of {whose} {other}: a result must have its own")


def require_separate_memory(calls: Sequence[Outputs]) -> None:
    """Raise if two calls returned the same memory while the results of both are held.

    Raises:
        MisconductError: two calls did.
    """
    extents = sorted(
        (*extent, number, name)
        for number, outputs in enumerate(calls)
        for name, tensor in outputs.items()
        if (extent := _extent(tensor)) is not None
    )
    ends: dict[int, tuple[int, str]] = {}
    for begin, end, number, name in extents:
        for other, (its_end, its_name) in ends.items():
            if other != number and begin < its_end:
                later = name if number > other else its_name
                raise MisconductError(
                    f"{later} lies in the memory of an earlier call's {later}: a result must have its own"
                    if name == its_name
                    else f"{name} and another call's {its_name} lie in the same memory: a result must have its own"
                )
        ends[number] = max(ends.get(number, (0, "")), (end, name))


def _extent(tensor: Any) -> tuple[int, int] | None:
    """Return the first address and the one after the last; ``None`` for a tensor that is empty or has no address."""
    if isinstance(tensor, np.ndarray):
        if tensor.size == 0:
            return None
        begin, end = np.lib.array_utils.byte_bounds(tensor)
        return int(begin), int(end)
    if not hasattr(tensor, "data_ptr") or tensor.numel() == 0:
        return None
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    begin = int(tensor.data_ptr())
    return begin, begin + span * int(tensor.element_size())


def tensors_of(operands: Operands) -> dict[str, Tensor]:
    """Return all tensors of a call's operands by name."""
    fields = {f.name: getattr(operands, f.name) for f in dataclasses.fields(operands)}
    return {name: tensor for name, tensor in fields.items() if tensor is not None}


def checksums(operands: Operands) -> dict[str, int]:
    """Return a checksum for each operand, over its whole buffer, including the memory around the operand."""
    return {name: _checksum(tensor) for name, tensor in tensors_of(operands).items()}


def require_unchanged(before: dict[str, int], operands: Operands) -> None:
    """Raise if a call changed its inputs or the memory around them.

    Raises:
        MisconductError: it did.
    """
    changed = [name for name, checksum in checksums(operands).items() if checksum != before[name]]
    if changed:
        raise MisconductError(f"the call wrote into its inputs: {', '.join(changed)}")


def stored_bytes(operands: Operands) -> int:
    """Return the bytes of the buffers that contain the operands; only on a CPU."""
    return sum(part.nbytes for tensor in tensors_of(operands).values() for part in _memory(tensor))


def _checksum(tensor: Any) -> int:
    checksum = 0
    for part in _memory(tensor):
        checksum = _crc32(part, checksum)
    return checksum


def _memory(tensor: Any) -> Iterator[memoryview]:
    """Yield the bytes of the whole buffer that contains a tensor."""
    if hasattr(tensor, "untyped_storage"):
        import torch

        whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        yield whole.cpu().numpy().data
        return
    array = np.asarray(tensor)
    while isinstance(array.base, np.ndarray):
        array = array.base
    yield ascontiguousarray(array).reshape(-1).view(np.uint8).data
