"""Finds the keys' true heads where a model has repeated them, one copy for each query head of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def shared_heads(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, (batch, heads, seqlen, dim), without the copies of heads that stand side by side.

    Copies are told by their memory: a stride of nothing, or the same values. As one differing number ends the search,
    it takes no time where there are none.
    """
    heads = k.shape[1]
    for group in (n for n in range(heads, 1, -1) if heads % n == 0):
        if _is_repeated(k, group) and _is_repeated(v, group):
            return k[:, ::group], v[:, ::group]
    return k, v


def _is_repeated(x: Tensor, group: int) -> bool:
    """Whether each head of a group is equal to its first."""
    first_token = x[0, :, 0]
    if not torch.equal(first_token[::group].repeat_interleave(group, 0), first_token):
        return False
    whole = x.unflatten(1, (-1, group))  # type: ignore[no-untyped-call]
    return torch.equal(whole[:, :, :1].expand_as(whole), whole)
