"""Attention of xformers, with its own choice of an operator, and with each operator by name.

Lefaudeux et al., "xFormers: A modular and hackable Transformer modelling library" (2022). Its operators run on CUDA
only. If xformers has a class for the case's mask, and the operators take it, that is used; every other mask, and every
bias, becomes a dense tensor. Documents and padded keys are passed to xformers as one long sequence, as its classes
require.

``supports`` asks xformers and returns its reasons.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask, request_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

SUPPORTED: dict[str, Any] = {
    "device": "cuda",
    "dtypes": ("float32", "float16", "bfloat16"),
    "masks": MASK_KINDS,
    "mask_intersections": True,
    "modes": ("forward", "backward", "forward_backward"),
    "score_mods": ("none", "alibi", "relative_bias", "bias"),
    "score_mod_combinations": True,
    "alignments": ("top_left", "bottom_right"),
    "gqa": True,
    "unequal_head_dims": True,
    "layout": "bshd",
    "memory": "O(n)",
    "requires": ("xformers>=0.0.35",),
    "untested": True,  # on the device that it is for
}


@attention("xformers/auto", **SUPPORTED)
def auto(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Memory-efficient attention of xformers, which chooses an operator by itself."""
    return call(q, k, v, case, plan)


@attention("xformers/cutlass", **SUPPORTED)
def cutlass(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Memory-efficient attention of xformers on CUTLASS."""
    return call(q, k, v, case, plan)


@attention("xformers/flash", **SUPPORTED)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Memory-efficient attention of xformers as FlashAttention-2."""
    return call(q, k, v, case, plan)


@attention("xformers/splitk", **{**SUPPORTED, "modes": ("forward",)})
def splitk(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Memory-efficient attention of xformers in Triton, with the keys split among programs: for decoding."""
    return call(q, k, v, case, plan)


def operators(name: str) -> tuple[Any, Any] | None:
    """Return the operators of the forward and the backward pass; ``None`` leaves the choice to xformers."""
    from xformers.ops import fmha

    return {
        "auto": None,
        "cutlass": (fmha.cutlass.FwOp, fmha.cutlass.BwOp),
        "flash": (fmha.flash.FwOp, fmha.flash.BwOp),
        "splitk": (fmha.triton_splitk.FwOp, None),
    }[name]


class Plan:
    """The operators, the mask or bias, and whether the batch is passed as one long sequence."""

    def __init__(self, name: str, case: Case, operands: Operands) -> None:
        self.operators = operators(name)
        mask = mask_object(case, self.operators)
        self.one_sequence = mask is not None and case.mask in ("document", "key_padding", "ragged")
        self.bias = mask if mask is not None or not needs_dense(case) else dense_tensor(case, operands)


def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Call xformers, and return (batch, seqlen_q, heads_q, head_dim_v)."""
    from xformers.ops import memory_efficient_attention

    q, k, v = arranged(q, k, v, case, one_sequence=plan.one_sequence)
    out: Tensor = memory_efficient_attention(q, k, v, attn_bias=plan.bias, scale=case.scale, op=plan.operators)
    return out.reshape(case.batch, case.seqlen_q, case.heads_q, case.head_dim_v)


def arranged(q: Tensor, k: Tensor, v: Tensor, case: Case, *, one_sequence: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return views of the inputs, (batch, seqlen, heads, dim), in the form that xformers requires.

    Grouped heads have a separate axis, along which K and V are expanded; ``one_sequence`` folds the batch into the
    sequence.
    """
    if case.heads_q != case.heads_kv:
        group = case.heads_q // case.heads_kv
        q = q.view(case.batch, case.seqlen_q, case.heads_kv, group, case.head_dim)
        k, v = (x[:, :, :, None].expand(-1, -1, -1, group, -1) for x in (k, v))
    if one_sequence:
        q, k, v = (x.flatten(0, 1)[None] for x in (q, k, v))
    return q, k, v


def mask_object(case: Case, chosen: tuple[Any, Any] | None) -> Any | None:
    """Return xformers' object for this mask, or ``None`` if it has none that the operators take."""
    from xformers.ops.fmha import attn_bias as masks

    if case.score_mod != "none":
        return None
    bottom_right = case.alignment == "bottom_right" or case.seqlen_q == case.seqlen_kv
    mask: Any = None
    if case.mask == "causal":
        mask = masks.LowerTriangularFromBottomRightMask() if bottom_right else masks.LowerTriangularMask()
    elif case.mask == "sliding_window" and bottom_right:
        assert case.window_left is not None
        assert case.window_right is not None
        if case.window_right == 0:
            mask = masks.LowerTriangularFromBottomRightLocalAttentionMask(case.window_left + 1)
        else:
            mask = masks.LocalAttentionFromBottomRightMask(case.window_left, case.window_right)
    elif case.mask == "document":
        assert case.document_lengths is not None
        mask = masks.BlockDiagonalMask.from_seqlens(list(case.document_lengths) * case.batch)
        mask = mask.make_causal() if case.document_causal else mask
    elif case.mask == "key_padding":
        assert case.kv_lengths is not None
        mask = masks.BlockDiagonalPaddedKeysMask.from_seqlens(
            q_seqlen=[case.seqlen_q] * case.batch, kv_padding=case.seqlen_kv, kv_seqlen=list(case.kv_lengths)
        )
    elif case.mask == "ragged":
        requests = request_groups(case, one_by_one=True)
        mask = masks.BlockDiagonalCausalFromBottomRightMask.from_seqlens(
            [one.case.seqlen_q for one in requests], [one.case.seqlen_kv for one in requests]
        )
    takers = (chosen or ()) if case.needs_gradients else (chosen or ())[:1]
    return mask if all(type(mask) in taker.SUPPORTED_ATTN_BIAS_TYPES for taker in takers) else None


def needs_dense(case: Case) -> bool:
    """Whether there is a mask or a score modification for a tensor to express."""
    return case.mask != "none" or case.score_mod != "none"


def unfilled(case: Case, device: Any) -> Tensor:
    """Allocate a bias tensor, (batch, heads_q, seqlen_q, seqlen_kv), with rows that start at multiples of 16 bytes.

    Grouped heads have two axes, (heads_kv, heads of a group).
    """
    import torch

    padded = -(-case.seqlen_kv // 8) * 8
    heads = (case.heads_q,) if case.heads_q == case.heads_kv else (case.heads_kv, case.heads_q // case.heads_kv)
    whole = torch.empty(case.batch, *heads, case.seqlen_q, padded, dtype=getattr(torch, case.dtype), device=device)
    return whole[..., : case.seqlen_kv]


def dense_tensor(case: Case, operands: Operands) -> Tensor:
    """Return mask and bias as one additive tensor."""
    import torch

    table = operands.relative_bias
    values = dense_bias(case, None if table is None else table.double().cpu().numpy())
    additive = torch.zeros(1, 1, 1, 1) if values is None else torch.from_numpy(values)
    if case.mask != "none":
        additive = additive.masked_fill(~torch.from_numpy(dense_mask(case)), -torch.inf)
    bias = unfilled(case, operands.q.device)
    bias.copy_(additive.expand(case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv).reshape(bias.shape))
    return bias


def refusal(name: str, case: Case, device: str) -> str | None:
    """Return xformers' own reason why it does not run a case, or ``None``."""
    import torch
    import xformers
    from xformers.ops import fmha

    chosen = operators(name)
    mask = mask_object(case, chosen)
    one_sequence = mask is not None and case.mask in ("document", "key_padding", "ragged")
    dtype = getattr(torch, case.dtype)
    q = torch.empty(case.batch, case.seqlen_q, case.heads_q, case.head_dim, dtype=dtype, device=device)
    k = torch.empty(case.batch, case.seqlen_kv, case.heads_kv, case.head_dim, dtype=dtype, device=device)
    v = torch.empty(case.batch, case.seqlen_kv, case.heads_kv, case.head_dim_v, dtype=dtype, device=device)
    q, k, v = arranged(q, k, v, case, one_sequence=one_sequence)
    bias = unfilled(case, device) if mask is None and needs_dense(case) else mask
    inputs = fmha.Inputs(query=q, key=k, value=v, attn_bias=bias, scale=case.scale)
    eligible = [chosen] if chosen else [(one.FwOp, one.BwOp) for one in (fmha.flash3, fmha.flash, fmha.cutlass)]
    forward, backward = zip(*eligible, strict=True)
    for candidates in (forward, backward) if case.needs_gradients else (forward,):
        reasons = {candidate.NAME: candidate.not_supported_reasons(inputs) for candidate in candidates}
        if all(reasons.values()):
            return f"xformers {xformers.__version__}: {told(reasons)}"
    return None


def told(reasons: dict[str, list[str]]) -> str:
    """Return the reason why no operator runs it: a common one, or one per operator."""
    common = [reason for reason in next(iter(reasons.values())) if all(reason in others for others in reasons.values())]
    if common:
        return f"{', '.join(common)} ({', '.join(reasons)})"
    return "; ".join(f"{', '.join(words)} ({name})" for name, words in reasons.items())


def operators_of(run: Callable[[], object]) -> str:
    """Return the attention operators that torch dispatches during a call, which identify xformers' choice."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: dict[str, None] = {}

    class Spy(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # nothing is compiled under it; to skip torch._dynamo is to import it, which takes a second

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(word in func.name() for word in ("attention", "flash", "fmha", "splitk")):
                seen.setdefault(func.name())
            return func(*args, **(kwargs or {}))

    with Spy():  # type: ignore[no-untyped-call]  # the same
        run()
    return ", ".join(seen) or "unknown: no attention operator was dispatched"


for _implementation, _name in ((auto, "auto"), (cutlass, "cutlass"), (flash, "flash"), (splitk, "splitk")):
    _implementation.prepare(functools.partial(Plan, _name))
    _implementation.supports(functools.partial(refusal, _name))
    _implementation.backend(operators_of)
