"""PyTorch's scaled_dot_product_attention, called for each run of equal requests of a ragged batch.

This is the approach of a program without a kernel for variable lengths: no query meets a key of another request, but
each call has its overhead. Equal neighbours form a batch, as a view of the pack. torch chooses the back end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import attention, dense_mask, request_groups

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "torch/sdpa-each",
    device=("cpu", "cuda"),
    dtypes=("float64", "float32", "float16", "bfloat16"),
    masks=("ragged", "sliding_window & ragged"),
    modes=("forward", "backward", "forward_backward"),
    strides=("contiguous", "transposed", "sliced", "expanded_kv"),
    gqa=True,
    unequal_head_dims=True,
)
def each(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention, called for each run of equal requests."""
    import torch
    from torch.nn import functional

    outs = [
        functional.scaled_dot_product_attention(
            group.queries_of(q), group.keys_of(k), group.keys_of(v),
            attn_mask=mask, is_causal=is_causal, scale=case.scale, enable_gqa=case.heads_q != case.heads_kv,
        ).transpose(0, 1).flatten(1, 2)
        for group, mask, is_causal in plan.calls
    ]  # fmt: skip
    return torch.cat(outs, 1)[None]


class Plan:
    """The calls, one per group of requests, each with its mask as a tensor or as the flag."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        self.calls = []
        for group in request_groups(case):
            one = group.case
            is_causal = one.mask == "causal" and one.alignment == "top_left"
            mask = None
            if one.mask != "none" and not is_causal:
                hidden = ~torch.from_numpy(dense_mask(one)).to(operands.q.device)
                mask = torch.zeros(hidden.shape, dtype=operands.q.dtype, device=hidden.device)
                mask = mask.masked_fill(hidden, -torch.inf)  # (1, 1, queries, keys)
            self.calls.append((group, mask, is_causal))


each.prepare(Plan)
