"""The kind of a call, told by what the program hands over, before the call is described."""

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
    """Calls are alike where ``key`` is equal, and so are the values of all tensors but Q, K and V."""

    key: Hashable
    tensors: tuple[Tensor, ...]
    """Q, K and V, and then masks, biases and sinks."""


AtOnce = Callable[[Kind], "Tensor | None"]
"""Answers a call that is like an earlier one, without its description; ``None`` where none was."""

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_VALUES = (bool, int, float, str, types.NoneType, types.FunctionType, types.BuiltinFunctionType)


def kind_of(*arguments: object) -> Kind | None:
    """The kind of a call of these arguments, queries, keys and values first.

    ``None`` where its description depends on more than is seen here.
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
    """Whether torch.func transforms what runs, or gradients are wanted in forward mode."""
    level = forward_ad._current_level  # noqa: SLF001 - there is no public way to ask
    return level >= 0 or torch._C._functorch.maybe_current_level() is not None  # noqa: SLF001 - nor here
