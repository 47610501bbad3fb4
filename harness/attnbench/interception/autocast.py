"""The dtype in which attention is computed, which under autocast differs from that of its inputs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_CAST = (torch.float32, torch.float16, torch.bfloat16)


def as_computed(x: Tensor) -> Tensor:
    """Cast a tensor as ``torch.autocast``, if enabled, casts the inputs of matrix products."""
    kind = x.device.type
    if x.dtype not in _CAST or x.is_meta or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def autocast_off(kind: str) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast, in which products have the dtype of their inputs."""
    is_on = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else contextlib.nullcontext()
