"""The callables that every tool times: attention of 512 tokens and 8 heads, computed in three ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench import Case, attention

SHAPE = (1, 8, 512, 64)
AXES = ("-a", "seqlen=512", "-a", "heads=8", "-a", "head_dim=64")

Array = NDArray[np.float32]


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention by one torch operator."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def unfused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention by three torch operators."""
    return torch.softmax(q @ k.transpose(-1, -2) * 0.125, -1) @ v


def by_numpy(q: Array, k: Array, v: Array) -> Array:
    """Attention in NumPy."""
    scores = q @ k.swapaxes(-1, -2) * np.float32(0.125)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    answer: Array = weights / weights.sum(-1, keepdims=True) @ v
    return answer


KERNELS: dict[str, Callable[..., Any]] = {"fused": fused, "unfused": unfused, "by-numpy": by_numpy}


def operands(name: str) -> list[Any]:
    """Return Q, K and V for a kernel."""
    drawn = np.random.default_rng(0).standard_normal((3, *SHAPE), np.float32)
    return [one if name == "by-numpy" else torch.from_numpy(one) for one in drawn]


@attention("precision/fused", device="cpu", dtypes=["float32"], masks=["none"])
def _fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case) -> torch.Tensor:
    return fused(q, k, v)


@attention("precision/unfused", device="cpu", dtypes=["float32"], masks=["none"])
def _unfused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case) -> torch.Tensor:
    return unfused(q, k, v)


@attention("precision/by-numpy", framework="numpy", dtypes=["float32"], masks=["none"])
def _by_numpy(q: Array, k: Array, v: Array, case: Case) -> Array:
    return by_numpy(q, k, v)
