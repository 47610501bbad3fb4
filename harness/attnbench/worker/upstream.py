"""Hides the upstream gradient from a forward pass that is not timed.

Otherwise the forward pass could compute the gradients, and the timed backward pass only return them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAN = 0xFF
"""A byte whose repetition is NaN in every floating-point type here."""


@contextlib.contextmanager
def out_of_sight(tensor: Any) -> Iterator[None]:
    """Fill the memory of a tensor on the CPU with NaN within the block, and restore it afterwards.

    JAX arrays cannot be written to, and stay unchanged.
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
    """Return the whole buffer as writable bytes, or ``None``."""
    if isinstance(tensor, np.ndarray):
        while isinstance(tensor.base, np.ndarray):
            tensor = tensor.base
        one_of_each = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.strides)
        return tensor[one_of_each].view(np.uint8)
    if not hasattr(tensor, "untyped_storage") or tensor.device.type != "cpu":
        return None
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()
