"""Finds the true key heads if a model has repeated them, one copy per query head of a group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.graph import Node


def shared_heads(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values, (batch, heads, seqlen, dim), without adjacent copies of heads.

    Copies are detected by a stride of 0 or by equal values. If there are none, the comparison stops at the first
    difference and is fast. If gradients are needed, heads that merely have equal values, for example because all
    weights are equal, must keep separate gradients, so copies are detected in autograd's graph.

    Raises:
        ValueError: within ``vmap``, which hides its batch.
    """
    if any(torch._C._functorch.is_batchedtensor(x) for x in (k, v)):  # noqa: SLF001 - there is no public way to ask
        raise ValueError("it runs within vmap, whose batch is not seen from within")
    if k.is_meta or v.is_meta:
        return k, v
    heads = k.shape[1] if k.numel() and v.numel() else 0
    most = min(_copies(x) if torch.is_grad_enabled() and x.requires_grad else heads for x in (k, v))
    for group in (n for n in range(heads, 1, -1) if heads % n == 0 and n <= most):
        if _is_repeated(k, group) and _is_repeated(v, group):
            return k[:, ::group], v[:, ::group]
    return k, v


def _is_repeated(x: Tensor, group: int) -> bool:
    """Whether all heads of each group are equal."""
    first_token = x[0, :, 0]
    if not torch.equal(first_token[::group].repeat_interleave(group, 0), first_token):
        return False
    whole = x.unflatten(1, (-1, group))  # type: ignore[no-untyped-call]
    return torch.equal(whole[:, :, :1].expand_as(whole), whole)


def _copies(x: Tensor) -> float:
    """Return how often the node of autograd's graph that produced these values repeats each, or 1."""
    step = x.grad_fn
    while step is not None and _kind(step) in _SAME_VALUES:
        step = step.next_functions[0][0]
    if step is None or _kind(step) not in _COPIES:
        return 1
    repeated: tuple[int, ...] = getattr(step, _SIZES)
    return x.numel() / max(1, math.prod(repeated))


def _kind(step: Node) -> str:
    return step.name().partition("Backward")[0]


_SAME_VALUES = ("View", "UnsafeView", "ReshapeAlias", "Clone", "Alias", "Transpose", "Permute", "Unsqueeze", "ToCopy")
_SIZES = "_saved_self_sym_sizes"
"""The node's attribute with the sizes of its input."""
_COPIES = ("Expand", "Repeat", "Index", "IndexSelect")
"""Last nodes of ``expand``, ``repeat``, ``repeat_interleave``, and of indexing heads."""
