"""PyTorch's nn.MultiheadAttention: multi-head attention with its projections, as one module.

The module has no bias vectors, is in evaluation mode, and does not return the weights, so that it may use fused
attention. Gradients are computed for its three inputs; its weights are frozen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, batch_varies, dense_mask

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "torch/multihead-attention",
    device=("cpu", "cuda"),
    dtypes=("float64", "float32", "float16", "bfloat16"),
    masks=MASK_KINDS,
    mask_intersections=True,
    modes=("forward", "backward", "forward_backward"),
    operators=("multi_head_attention",),
    alignments=("top_left", "bottom_right"),
    empty=True,
)
def multi_head(x_q: Tensor, x_k: Tensor, x_v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's nn.MultiheadAttention, projections included."""
    out, _ = plan.module(x_q, x_k, x_v, need_weights=False, **plan.mask)
    result: Tensor = out
    return result


@multi_head.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the module cannot run the case, or ``None``: it has no argument for the scale."""
    del device
    if not math.isclose(case.scale, 1 / math.sqrt(case.head_dim), rel_tol=1e-12):
        return f"nn.MultiheadAttention always scales by 1 / sqrt(head_dim); the case asks for {case.scale:g}"
    return None


class Plan:
    """The module with the case's weights, and the mask as its arguments."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        like: dict[str, Any] = {"device": operands.q.device, "dtype": operands.q.dtype}
        module = torch.nn.MultiheadAttention(case.embed_dim, case.heads_q, bias=False, batch_first=True, **like)
        module.eval().requires_grad_(requires_grad=False)
        # The module multiplies by transposed weights, as nn.Linear does; those of Q, K and V are stacked.
        weights: tuple[Any, ...] = (operands.w_q, operands.w_k, operands.w_v, operands.w_o)
        *projections, last = (weight.T for weight in weights)  # (embed_dim, embed_dim) each
        module.in_proj_weight.copy_(torch.cat(projections))
        module.out_proj.weight.copy_(last)
        self.module = module
        self.mask = mask_arguments(case, operands.q.device)


multi_head.prepare(Plan)


def mask_arguments(case: Case, device: Any) -> dict[str, Any]:
    """Return the mask as arguments of the module: ``True`` where a key is hidden."""
    import torch

    if case.mask == "none":
        return {}
    hidden = ~torch.from_numpy(dense_mask(case)).to(device)  # (batch or 1, 1, seqlen_q, seqlen_kv)
    if case.mask == "key_padding":
        return {"key_padding_mask": hidden[:, 0, 0]}  # (batch, seqlen_kv)
    if batch_varies(case):
        return {"attn_mask": hidden.expand(-1, case.heads_q, -1, -1).flatten(0, 1)}  # a mask per head
    # The flag promises that the mask is top-left causal, so that fused attention need not read it.
    return {"attn_mask": hidden[0, 0], "is_causal": case.mask == "causal" and case.alignment == "top_left"}
