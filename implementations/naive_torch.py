"""Attention in torch, written as in a textbook: every matrix is materialised, in the dtype of the inputs.

Fused kernels are compared with this. They save the scores, which take O(seqlen^2) memory and are written and read
several times. In float32, without a mask, the peak of a forward call is two such matrices, the input and the result of
a step, plus the output. ``naive/torch-compile`` is the same function, compiled by torch.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask, key_lengths, request_groups

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands

EVERYTHING: dict[str, Any] = {
    "device": ("cpu", "cuda"),
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "masks": MASK_KINDS,
    "mask_intersections": True,
    "modes": ("forward", "backward", "forward_backward"),
    "score_mods": ("none", "softcap", "alibi", "relative_bias", "bias", "sink"),
    "score_mod_combinations": True,
    "alignments": ("top_left", "bottom_right"),
    "strides": ("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    "kv_caches": ("dense", "latent"),
    "empty": True,
    "gqa": True,
    "unequal_head_dims": True,
    "stores_scores": True,
    "returns_lse": True,
    "memory": "O(n^2)",
    "bias_grad": True,
}


class Plan:
    """The mask, the bias, the sinks and the block table, which do not depend on Q, K and V."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        device, dtype = operands.q.device, getattr(torch, case.output_dtype)
        self.requests = [(one, Plan(one.case, operands)) for one in request_groups(case, one_by_one=True)]
        masked = case.mask != "none" and not self.requests
        self.hidden = ~torch.from_numpy(dense_mask(case)).to(device) if masked else None
        table = operands.relative_bias
        bias = dense_bias(case, None if table is None else table.double().cpu().numpy())
        # (batch or 1, heads_q or 1, seqlen_q, seqlen_kv)
        self.bias = None if bias is None else torch.from_numpy(bias).to(device, dtype)
        self.own_bias = operands.bias  # if its gradient is requested
        self.seed = operands.dropout_seed
        self.kept: Tensor | None = None  # (batch, heads_q, seqlen_q, seqlen_kv), with dropout
        sinks = operands.sinks
        # (1, heads_q, 1, 1); float32 or wider, like the LSE
        self.sinks = None if sinks is None else sinks[None, :, None, None]
        self.block_table = operands.block_table
        self.k_scale, self.v_scale = operands.k_scale, operands.v_scale  # (batch, heads_kv, seqlen_kv)


@attention(
    "naive/torch",
    **{**EVERYTHING, "dtypes": (*EVERYTHING["dtypes"], "float8_e4m3fn"), "kv_caches": ("dense", "paged", "latent")},
    kv_dtypes=("none", "int8", "float8_e4m3fn"),
    dropout=("cpu", "cuda"),
)
def naive(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Scores, softmax, weighted sum, each a whole matrix in torch."""
    if case.dtype == "float8_e4m3fn":  # nothing is computed in float8 itself
        q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
    if plan.block_table is not None:
        k, v = gather(k, plan.block_table, case), gather(v, plan.block_table, case)
    if case.kv_dtype is not None:
        k, v = dequantise(k, plan.k_scale, q), dequantise(v, plan.v_scale, q)
    return attend(q, k, v, case, plan)


naive.prepare(Plan)


@naive.kept
def kept(case: Case, plan: Plan) -> Tensor:
    """Return which weights the last forward pass kept."""
    assert plan.kept is not None
    return plan.kept


def attend(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Return the output (batch, heads_q, seqlen_q, head_dim_v) and the LSE (batch, heads_q, seqlen_q)."""
    import torch

    if plan.requests:  # packed: one request at a time
        parts = [
            attend(q[:, :, one.rows], k[:, :, one.columns], v[:, :, one.columns], one.case, sub)
            for one, sub in plan.requests
        ]
        return torch.cat([out for out, _ in parts], 2), torch.cat([lse for _, lse in parts], 2)
    # The query heads of a group share a key head, so their rows are stacked for a single product.
    # phase: qk
    scores = stack(q * case.scale, case) @ k.transpose(-1, -2)  # (batch, heads_kv, group * seqlen_q, seqlen_kv)
    scores = unstack(scores, case)  # (batch, heads_q, seqlen_q, seqlen_kv)
    # phase: mask
    if case.softcap is not None:
        scores = case.softcap * torch.tanh(scores / case.softcap)
    for bias in (plan.bias, plan.own_bias):
        if bias is not None:
            scores = scores + bias
    if plan.hidden is not None:
        scores = scores.masked_fill(plan.hidden, -torch.inf)
    # The softmax, in float32 or wider. A row that sees no key has the maximum -inf, and weights 0.
    # phase: softmax
    nothing = scores.new_full((*scores.shape[:3], 1), -torch.inf)
    top = scores.detach().amax(-1, keepdim=True) if case.seqlen_kv else nothing
    top = top.to(torch.promote_types(q.dtype, torch.float32))
    if plan.sinks is not None:
        top = torch.maximum(top, plan.sinks)
    finite = top.masked_fill(torch.isneginf(top), 0)
    scores = (scores - finite).exp_()
    total = scores.sum(-1, keepdim=True)
    if plan.sinks is not None:
        total = total + torch.exp(plan.sinks - finite)
    weights = (scores / total.masked_fill(total == 0, 1)).to(q.dtype)
    lse = top + total.log()
    if case.dropout is not None:
        generator = torch.Generator(q.device).manual_seed(int(plan.seed[0]))
        plan.kept = torch.rand(weights.shape, generator=generator, device=q.device) >= case.dropout
        weights = weights * plan.kept / (1 - case.dropout)
    out = unstack(stack(weights, case) @ v, case)  # phase: pv  (batch, heads_q, seqlen_q, head_dim_v)
    return out, lse[..., 0]


def stack(x: Tensor, case: Case) -> Tensor:
    """Reshape (batch, heads_q, seqlen_q, n) to (batch, heads_kv, heads of a group * seqlen_q, n)."""
    return x.reshape(case.batch, case.heads_kv, case.heads_q // case.heads_kv * case.seqlen_q, x.shape[-1])


def unstack(x: Tensor, case: Case) -> Tensor:
    """Reshape (batch, heads_kv, heads of a group * seqlen_q, n) back to (batch, heads_q, seqlen_q, n)."""
    return x.reshape(case.batch, case.heads_q, case.seqlen_q, x.shape[-1])


def dequantise(stored: Tensor, scale: Tensor, like: Tensor) -> Tensor:
    """Multiply stored rows (..., seqlen_kv, dim) by their scales (..., seqlen_kv), in the dtype of the queries."""
    return (stored.to(scale.dtype) * scale[..., None]).to(like.dtype)


def gather(pages: Tensor, block_table: Tensor, case: Case) -> Tensor:
    """Pages (pages, page_size, heads_kv, dim) to (batch, heads_kv, seqlen_kv, dim)."""
    import torch

    rows = zip(block_table, key_lengths(case).tolist(), strict=True)
    keys = [pages[row[: -(-length // pages.shape[1])]].flatten(0, 1)[:length] for row, length in rows]
    return (
        torch.cat([pages[:0].flatten(0, 1), *keys]).view(case.batch, case.seqlen_kv, *pages.shape[2:]).transpose(1, 2)
    )


@attention("naive/torch-compile", **EVERYTHING)
def compiled(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: tuple[Plan, Any]) -> tuple[Tensor, Tensor]:
    """The same three steps, fused as far as torch.compile fuses them."""
    core, function = plan
    result: tuple[Tensor, Tensor] = function(q, k, v, case, core)
    return result


@compiled.prepare
def compile_attend(case: Case, operands: Operands) -> tuple[Plan, Any]:
    """Return a function specialised for the case's shapes, which is compiled at the first call."""
    import torch

    return Plan(case, operands), torch.compile(attend, dynamic=False)


@compiled.available
def needs_compiler() -> str | None:
    """Return a sentence if there is no C++ compiler, which torch.compile needs on a CPU."""
    if shutil.which("g++") or shutil.which("clang++") or shutil.which("c++"):
        return None
    return "torch.compile needs a C++ compiler, and none is on the PATH (g++ or clang++)"
