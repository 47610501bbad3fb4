"""The kind of a call, determined by the program's arguments alone, before the call is described."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Calls are of one kind if ``key`` and the values of all tensors except Q, K and V are equal."""

    key: Hashable
    tensors: tuple[Tensor, ...]
    """Q, K and V, followed by masks, biases and sinks."""


AtOnce = Callable[[Kind], "Tensor | None"]
"""Answers a call like an earlier one without describing it; returns ``None`` if there was none."""

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_VALUES = (bool, int, float, str, types.NoneType, types.FunctionType, types.BuiltinFunctionType)


def kind_of(*arguments: object) -> Kind | None:
    """Return the kind of a call with these arguments, queries, keys and values first.

    ``None`` if the description of the call depends on more than its arguments.
    """
    if is_transformed() or torch._C._is_any_autocast_enabled():  # noqa: SLF001 - of any device
        return None
    tensors: list[Tensor] = []
    records = torch.is_grad_enabled()
    key: list[Hashable] = [records]
    for value in arguments:
        kind: Any = type(value)
        if kind in _PLAIN:
            tensor = cast("Tensor", value)
            if tensor.is_nested or tensor.is_meta or tensor.layout != torch.strided:
                return None
            key += (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, records and tensor.requires_grad)
            tensors.append(tensor)
        elif kind in _VALUES:
            key.append(value)
        else:
            return None
    if len(tensors) < 3:
        return None
    return Kind(tuple(key), tuple(tensors))


def is_transformed() -> bool:
    """Whether the call runs within a torch.func transform, or computes forward-mode gradients."""
    level = forward_ad._current_level  # noqa: SLF001 - there is no public way to ask
    return level >= 0 or torch._C._functorch.maybe_current_level() is not None  # noqa: SLF001 - nor here
