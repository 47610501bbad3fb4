"""Attention in blocks with an online softmax, compiled for the CPU by Numba.

What a fused GPU kernel does, written in Python: a block of queries stays in the cache while blocks of keys and values
are streamed past it, and the running softmax is corrected whenever a larger score turns up. No matrix of scores ever
exists. Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning" (2023); the online
softmax is from Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018). The kernels themselves are
in ``kernels.py``.

Extra memory of a forward call: the LSE and a few tiles for each thread; for float16 and bfloat16, which are converted
as a whole, float32 copies of Q, K, V and the output as well.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from attnbench import alibi_slopes, attention, is_bidirectional, relative_buckets, row_bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "numba/flash",
    dtypes=("float64", "float32", "float16", "bfloat16"),
    masks=("none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"),
    modes=("forward", "backward", "forward_backward"),
    score_mods=("none", "softcap", "alibi", "relative_bias", "sink"),
    alignments=("top_left", "bottom_right"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    gqa=True,
    unequal_head_dims=True,
    returns_lse=True,
    memory="O(n)",
    requires=("numba>=0.61",),
)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Blocks of keys streamed past blocks of queries with an online softmax, in Numba."""
    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v, dtype=plan.computed)
    lse = q.new_empty(case.batch, case.heads_q, case.seqlen_q, dtype=plan.computed)
    arrays = [tensor.to(plan.computed).numpy() for tensor in (q, k, v)]
    plan.forward(*arrays, out.numpy(), lse.numpy(), *plan.rules)
    return out.to(q.dtype), lse


class Plan:
    """Compiled kernels, and what does not depend on Q, K and V."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        self.computed = torch.float64 if case.dtype == "float64" else torch.float32
        number = np.float64 if case.dtype == "float64" else np.float32
        bounds = [row_bounds(case, b) for b in range(case.batch)]
        low, high = np.stack([low for low, _ in bounds]), np.stack([high for _, high in bounds])  # (batch, seqlen_q)
        table = None if operands.relative_bias is None else operands.relative_bias.double().numpy()
        bias = diagonal_bias(case, table).astype(number)
        sinks = np.full(case.heads_q, -np.inf) if operands.sinks is None else operands.sinks.numpy()
        self.rules = (low, high, bias, sinks.astype(number), number(case.scale), number(case.softcap or 0))
        self.forward = compiled("forward", number.__name__)
        self.backward = compiled("backward", number.__name__) if case.needs_gradients else None


flash.prepare(Plan)


def diagonal_bias(case: Case, table: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What is added to scores: it hangs on the distance of key and query only, so one row holds all of a head's.

    Returns:
        (heads_q, seqlen_q + seqlen_kv - 1), by key index - query index + seqlen_q - 1; (heads_q, 0) where nothing is
        added.
    """
    distance = np.arange(1 - case.seqlen_q, case.seqlen_kv) - case.diagonal_offset
    if case.score_mod == "alibi":
        return -alibi_slopes(case.heads_q)[:, None] * np.abs(distance)
    if table is not None:
        return np.ascontiguousarray(table[:, relative_buckets(distance, bidirectional=is_bidirectional(case))])
    return np.empty((case.heads_q, 0))


@functools.cache
def compiled(kernel: str, number: str) -> Callable[..., None]:
    """A kernel for float32 or float64. Numba keeps what it compiled on disk, for the next process."""
    from numba import types

    kernels = import_module(f"{__name__}.kernels")
    function: Callable[..., None] = kernels.compile_for(getattr(kernels, kernel), getattr(types, number))
    return function


@flash.backward
def flash_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by recomputing the weights from the LSE, block by block."""
    import torch

    given = [tensor.to(plan.computed) for tensor in (dout, q, k, v, out, lse)]
    found = [torch.empty(tensor.shape, dtype=plan.computed) for tensor in (q, k, v)]
    delta = torch.empty_like(lse)
    arrays = [tensor.numpy() for tensor in (*given, delta, *found)]
    assert plan.backward is not None
    plan.backward(*arrays, *plan.rules)
    dq, dk, dv = (gradient.to(q.dtype) for gradient in found)
    return dq, dk, dv
