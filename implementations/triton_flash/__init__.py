"""A fused forward kernel in Triton, written to be read: FlashAttention-2 with the mask as two numbers for each row.

A program takes a block of queries, streams blocks of keys and values past it, and keeps a running softmax (Dao,
"FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023, algorithm 1). The kernel
itself is in ``kernel.py``.

On a CPU the same kernel is run by Triton's interpreter, which carries out each of its operations in NumPy: enough to
check what it computes, far too slow to time.
"""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import attention, row_bounds

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands

INTERPRETED_PAIRS = 2**21
"""Query-key pairs, over all heads, that the interpreter gets through in seconds."""
BLOCK_M = 64


@attention(
    "triton/flash",
    device=("cpu", "cuda"),
    dtypes=("float32", "float16", "bfloat16"),
    masks=("none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"),
    alignments=("top_left", "bottom_right"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    gqa=True,
    unequal_head_dims=True,
    returns_lse=True,
    memory="O(n)",
    agreement_only=("cpu",),
    requires=("triton>=3.6",),
)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Blocks of keys streamed past blocks of queries with an online softmax, in Triton (never run on a GPU yet)."""
    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
    lse = plan.low.new_empty(case.batch, case.heads_q, case.seqlen_q, dtype=plan.float32)
    plan.kernel[plan.grid](
        q, k, v, out, lse, plan.low, plan.high, *q.stride(), *k.stride(), *v.stride(), *plan.sizes, **plan.blocks
    )
    return out, lse


@flash.supports
def refusal(case: Case, device: str) -> str | None:
    """What the interpreter gets wrong, or takes too long for."""
    if device != "cpu":
        return None
    if case.dtype == "bfloat16":
        return (
            "on a CPU Triton's interpreter runs the kernel, and it multiplies bfloat16 numbers as if they were integers"
        )
    pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
    if pairs > INTERPRETED_PAIRS:
        return (
            f"on a CPU Triton's interpreter runs the kernel, and {pairs:,} query-key pairs over all heads would take "
            f"it long (at most {INTERPRETED_PAIRS:,})"
        )
    return None


class Plan:
    """The kernel, and its arguments other than tensors of the call."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        device = operands.q.device
        self.kernel = load_kernel(interpreted=device.type == "cpu")
        self.float32 = torch.float32
        bounds = np.array([row_bounds(case, b) for b in range(case.batch)], np.int32)  # (batch, 2, seqlen_q)
        self.low, self.high = (torch.from_numpy(bounds[:, i].copy()).to(device) for i in range(2))
        self.grid = (-(-case.seqlen_q // BLOCK_M), case.batch * case.heads_q)
        group = case.heads_q // case.heads_kv
        self.sizes = (
            case.heads_q, group, case.seqlen_q, case.seqlen_kv, case.head_dim, case.head_dim_v,
            case.scale * math.log2(math.e),
        )  # fmt: skip
        self.blocks = {
            "BLOCK_M": BLOCK_M,
            # Blocks of K and V must fit into shared memory, several at a time.
            "BLOCK_N": 64 if operands.q.element_size() * case.head_dim <= 256 else 32,
            "BLOCK_D": power_of_two(case.head_dim),
            "BLOCK_DV": power_of_two(case.head_dim_v),
        }


flash.prepare(Plan)


def power_of_two(size: int) -> int:
    """The next power of two, and 16 at least: what a matrix product in Triton takes."""
    return max(16, 1 << (size - 1).bit_length())


def load_kernel(*, interpreted: bool) -> Any:
    """Import Triton with or without its interpreter: it decides that once, when it is imported.

    Raises:
        RuntimeError: when this process has imported Triton before in the other way.
    """
    name = f"{__name__}.kernel"
    if interpreted and os.environ.get("TRITON_INTERPRET") != "1":
        if "triton" in sys.modules:
            raise RuntimeError(
                "Triton was imported by this process before its interpreter was asked for: run this implementation in "
                "a process of its own, or with TRITON_INTERPRET=1 in the environment"
            )
        os.environ["TRITON_INTERPRET"] = "1"
    if not interpreted and os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("TRITON_INTERPRET=1 is set, so that Triton's interpreter would run in place of the GPU")
    return import_module(name).forward
