"""The upstream gradient, out of sight while a forward pass runs that is not timed.

Otherwise a forward pass could compute the gradients, and the backward pass that is timed hand them out.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAN = 0xFF
"""A byte that, repeated, is NaN in every floating-point type here."""


@contextlib.contextmanager
def out_of_sight(tensor: Any) -> Iterator[None]:
    """Within the block the memory that a tensor of the CPU lies in holds NaN; afterwards what it held before.

    Arrays of JAX cannot be written to, and stay as they are.
    """
    memory = _memory(tensor)
    if memory is None:
        yield
        return
    held = memory.copy()
    memory[...] = _NAN
    try:
        yield
    finally:
        memory[...] = held


def _memory(tensor: Any) -> Any:
    """The whole buffer as bytes that can be written to, or ``None``."""
    if isinstance(tensor, np.ndarray):
        while isinstance(tensor.base, np.ndarray):
            tensor = tensor.base
        one_of_each = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.strides)
        return tensor[one_of_each].view(np.uint8)
    if not hasattr(tensor, "untyped_storage") or tensor.device.type != "cpu":
        return None
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()
