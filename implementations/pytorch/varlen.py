"""PyTorch's varlen_attn: FlashAttention over packed sequences, given the offset of each.

It is written from torch 2.13's documentation and has not been run, as varlen_attn has CUDA kernels only. A batch of
equal lengths is packed, too. The diagonal ends in the bottom right corner of each sequence.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench import attention, request_groups

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "torch/varlen",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal", "sliding_window", "document", "ragged", "sliding_window & ragged"),
    modes=("forward", "backward", "forward_backward"),
    gqa=True,
    layout="packed",
    memory="O(n)",
    requires=("torch>=2.12",),
    untested=True,
)
def varlen(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's varlen_attn, over packed sequences, from its documentation."""
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(
        q, k, v, plan.starts[0], plan.starts[1], plan.longest[0], plan.longest[1],
        scale=case.scale, window_size=plan.window, enable_gqa=case.heads_q != case.heads_kv,
    )  # fmt: skip
    assert not isinstance(out, tuple)
    return out


class Plan:
    """Offsets of the sequences in queries and keys, and the window."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        requests = [one.case for one in request_groups(case, one_by_one=True)]
        packed = list((case.document_lengths or (case.seqlen_q,)) * case.batch)
        of_queries = [one.seqlen_q for one in requests] or packed
        of_keys = [one.seqlen_kv for one in requests] or packed
        self.longest = (max(of_queries), max(of_keys))
        self.starts = tuple(
            torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=operands.q.device)
            for lengths in (of_queries, of_keys)
        )
        self.window = (-1, -1)
        if case.mask in ("causal", "ragged") or case.document_causal:
            self.window = (-1, 0)
        elif "sliding_window" in case.mask_kinds:
            assert case.window_left is not None
            assert case.window_right is not None
            self.window = (case.window_left, case.window_right)


varlen.prepare(Plan)
