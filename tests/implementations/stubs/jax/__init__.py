"""Stand-in for jax: dot_product_attention as in docs.jax.dev, on NumPy arrays, computed by definition."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import torch
from reference import attend, tokens_first


class Array(np.ndarray):
    """Results are awaited."""

    def block_until_ready(self) -> Array:
        return self


def jit(function: Any) -> Any:
    """Compiled as it is."""
    return function


def _dot_product_attention(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: float | None = None,
    is_causal: bool = False, query_seq_lengths: Any = None, key_value_seq_lengths: Any = None,
    local_window_size: Any = None, implementation: str | None = None,
) -> Any:  # fmt: skip
    assert implementation in ("xla", "cudnn")
    assert scale is not None
    inputs = [tokens_first(torch.from_numpy(np.asarray(x))) for x in (query, key, value)]
    window = (-1, -1) if local_window_size is None else tuple(local_window_size)
    out, _ = attend(*inputs, scale=scale, causal=is_causal, window=window)
    return tokens_first(out).contiguous().numpy().view(Array)


nn = types.SimpleNamespace(dot_product_attention=_dot_product_attention)
