"""PyTorch's scaled_dot_product_attention, with its own choice of a back end, and with each back end by name.

If the case's mask is what torch means by ``is_causal`` (the diagonal starts in the top left corner), the flag is
passed; every other mask, and every bias, becomes one additive mask, built during preparation. It has the inputs' dtype,
as torch would convert a boolean mask to that in every call.

torch has no kernel for quantised K and V: they are dequantised in every call, to the dtype of the queries.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

SUPPORTED: dict[str, Any] = {
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "masks": MASK_KINDS,
    "mask_intersections": True,
    "modes": ("forward", "backward", "forward_backward"),
    "score_mods": ("none", "alibi", "relative_bias", "bias"),
    "score_mod_combinations": True,
    "alignments": ("top_left", "bottom_right"),
    "strides": ("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    "kv_caches": ("dense", "latent"),
    "empty": True,
    "gqa": True,
    "kv_dtypes": ("none", "int8", "float8_e4m3fn"),
    "bias_grad": True,
}

DROPOUT: dict[str, Any] = {"dropout": ("cpu",)}
"""CUDA kernels draw while they compute, and do not report which weights they drop."""


@attention("torch/sdpa", device=("cpu", "cuda"), unequal_head_dims=True, **SUPPORTED, **DROPOUT)
def sdpa(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention, which chooses a back end by itself."""
    return call(q, k, v, case, plan)


@attention("torch/sdpa-math", device=("cpu", "cuda"), unequal_head_dims=True, memory="O(n^2)", **SUPPORTED, **DROPOUT)
def math(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention, unfused: matrix product, softmax, matrix product."""
    return call_with("MATH", q, k, v, case, plan)


@attention("torch/sdpa-flash", device=("cpu", "cuda"), memory="O(n)", **{**SUPPORTED, "kv_caches": ("dense",)})
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention as FlashAttention: FlashAttention-2 on CUDA, torch's own on the CPU."""
    return call_with("FLASH_ATTENTION", q, k, v, case, plan)


@attention("torch/sdpa-efficient", device="cuda", unequal_head_dims=True, memory="O(n)", **SUPPORTED)
def efficient(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention as memory-efficient attention, on CUTLASS."""
    return call_with("EFFICIENT_ATTENTION", q, k, v, case, plan)


@attention("torch/sdpa-cudnn", device="cuda", memory="O(n)", **SUPPORTED)
def cudnn(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's scaled_dot_product_attention as cuDNN's fused kernel."""
    return call_with("CUDNN_ATTENTION", q, k, v, case, plan)


class Plan:
    """The mask, or the flag that replaces it, and other arguments of torch's function."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        self.grouped = case.heads_q != case.heads_kv
        self.causal = has_flag(case)
        table = operands.relative_bias
        mask = dense_bias(case, None if table is None else table.double().cpu().numpy())
        additive = None if mask is None else torch.from_numpy(mask)
        if case.mask != "none" and not self.causal:
            additive = torch.zeros(1) if additive is None else additive
            additive = additive.masked_fill(~torch.from_numpy(dense_mask(case)), -torch.inf)
        self.seed = operands.dropout_seed
        self.like = operands.q
        self.scales = None if operands.k_scale is None else (operands.k_scale, operands.v_scale)
        self.bias = operands.bias  # if its gradient is requested: added to the mask in every call
        # (batch or 1, heads_q or 1, seqlen_q, seqlen_kv)
        self.mask = None if additive is None else additive.to(operands.q.device, operands.q.dtype)


def has_flag(case: Case) -> bool:
    """Whether ``is_causal`` alone describes mask and score modification."""
    return case.mask == "causal" and case.alignment == "top_left" and case.score_mod == "none"


def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Call torch's function."""
    from torch.nn import functional

    if plan.scales is not None:
        k, v = (
            (stored.to(scale.dtype) * scale[..., None]).to(q.dtype)
            for stored, scale in zip((k, v), plan.scales, strict=True)
        )
    p = case.dropout or 0.0
    if p:
        import torch

        torch.manual_seed(int(plan.seed[0]))
    mask = plan.mask
    if plan.bias is not None:
        mask = plan.bias.expand(-1, -1, q.shape[2], k.shape[2]) + (0 if mask is None else mask)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=plan.causal, scale=case.scale, enable_gqa=plan.grouped, dropout_p=p
    )


def kept(case: Case, plan: Plan) -> Tensor:
    """Return which weights torch keeps with this seed, determined by a call whose values are the identity.

    With all scores 0, its output is the weights after dropout. On a CPU torch applies dropout in its unfused back end,
    with a mask that depends only on the seed and the shape of the scores. The oracle applies the returned mask, and so
    verifies that the timed call used the same one.
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(int(plan.seed[0]))
    q = plan.like.new_zeros(case.batch, case.heads_q, case.seqlen_q, 1)
    k = q.new_zeros(case.batch, case.heads_q, case.seqlen_kv, 1)
    identity = torch.eye(case.seqlen_kv, dtype=q.dtype).expand(case.batch, case.heads_q, -1, -1)
    weights = functional.scaled_dot_product_attention(q, k, identity, dropout_p=case.dropout or 0.0)
    return weights != 0


def call_with(backend: str, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Call torch's function with a single back end enabled; it raises if that back end cannot run the call."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([getattr(SDPBackend, backend)]):
        return call(q, k, v, case, plan)


def refusal(backend: str, case: Case, device: str) -> str | None:
    """Return torch's reason why a back end does not run a case, from a small problem of the same kind, or ``None``."""
    import torch

    seqlen_q, seqlen_kv = small_lengths(case)
    dtype = getattr(torch, case.dtype)

    def zeros(heads: int, seqlen: int, dim: int) -> Tensor:
        return torch.zeros(1, heads, seqlen, dim, device=device, dtype=dtype, requires_grad=case.needs_gradients)

    q, k = zeros(case.heads_q, seqlen_q, case.head_dim), zeros(case.heads_kv, seqlen_kv, case.head_dim)
    v = zeros(case.heads_kv, seqlen_kv, case.head_dim_v)
    plan = object.__new__(Plan)
    plan.grouped, plan.causal, plan.mask, plan.scales = case.heads_q != case.heads_kv, has_flag(case), None, None
    plan.bias = torch.zeros(1, 1, 1, 1, device=device, dtype=dtype, requires_grad=True) if case.bias_grad else None
    if not plan.causal and (case.mask != "none" or case.score_mod != "none"):
        plan.mask = torch.zeros(1, 1, seqlen_q, seqlen_kv, device=device, dtype=dtype)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            call_with(backend, q, k, v, case, plan)
        except (RuntimeError, NotImplementedError) as error:
            return f"torch {torch.__version__}: {reason_among([str(warning.message) for warning in said]) or error}"
    return None


def small_lengths(case: Case) -> tuple[int, int]:
    """Return lengths of at most 16 in the same order of size as the case's, which back ends take into account."""
    shorter = min(case.seqlen_q, case.seqlen_kv, 15)
    if case.seqlen_q == case.seqlen_kv:
        return shorter, shorter
    return (shorter, shorter + 1) if case.seqlen_q < case.seqlen_kv else (shorter + 1, shorter)


def reason_among(messages: list[str]) -> str:
    """Join torch's warnings, without lines that only name the back end and the place."""
    reasons = [message.partition(" (Triggered internally")[0] for message in messages]
    return " ".join(reason for reason in reasons if not reason.endswith("not used because:"))


def operators_of(run: Callable[[], object]) -> str:
    """The fused operators that run during a call: they name the back end.

    By torch's own record of operators. A TorchDispatchMode sees them too, but its first use imports sympy, which takes
    a worker a second.
    """
    from torch.autograd.profiler import profile

    with profile() as seen:
        run()
    names = dict.fromkeys(event.name for event in seen.function_events or ())
    fused = [name for name in names if name.startswith("aten::_scaled_dot_product_") and not name.endswith("_math")]
    return ", ".join(fused) or "unfused: no attention operator was dispatched"


for _implementation in (sdpa, math, flash, efficient, cudnn):
    _implementation.prepare(Plan)
    _implementation.backend(operators_of)

for _implementation in (sdpa, math):
    _implementation.kept(kept)

flash.supports(functools.partial(refusal, "FLASH_ATTENTION"))
efficient.supports(functools.partial(refusal, "EFFICIENT_ATTENTION"))
cudnn.supports(functools.partial(refusal, "CUDNN_ATTENTION"))

CPU_FLASH: dict[str, str | tuple[str, ...]] = {
    r"cpu_flash_attention<": ("softmax", "qk", "pv"),
    r"cpu_flash_attention_backward<": ("softmax", "qk", "gradients", "gradients", "gradients", "gradients"),
    r"native::.*convert_kernel|native::.*pack_": "copies",
}
"""Phases of torch's CPU kernels (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp)."""

for _implementation in (sdpa, flash):
    _implementation.phases(CPU_FLASH)
