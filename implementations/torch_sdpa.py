"""torch.nn.functional.scaled_dot_product_attention: its own choice of back end, and each back end by name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attnbench import attention, dense_bias, dense_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

SUPPORTED = {
    "dtypes": ("float64", "float32", "float16", "bfloat16"),
    "masks": ("none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"),
    "modes": ("forward", "backward", "forward_backward"),
    "score_mods": ("none", "alibi", "relative_bias"),
    "alignments": ("top_left", "bottom_right"),
    "strides": ("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv"),
    "gqa": True,
}


class Plan:
    """How the case is put to torch: a mask, or the flag that stands for one."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        device, dtype = operands.q.device, operands.q.dtype
        self.grouped = case.heads_q != case.heads_kv
        table = operands.relative_bias
        bias = dense_bias(case, None if table is None else table.double().cpu().numpy())
        # torch's flag means the top-left corner, and FLASH has no other mask.
        self.causal = case.mask == "causal" and case.alignment == "top_left" and bias is None
        self.mask: Tensor | None = None
        if bias is not None:
            self.mask = torch.from_numpy(bias).to(device, dtype)
            if case.mask != "none":
                self.mask = self.mask.masked_fill(~torch.from_numpy(dense_mask(case)).to(device), -torch.inf)
        elif case.mask != "none" and not self.causal:
            self.mask = torch.from_numpy(dense_mask(case)).to(device)


def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """One call of torch's function."""
    import torch.nn.functional as F

    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=plan.mask, is_causal=plan.causal, scale=case.scale, enable_gqa=plan.grouped
    )


def call_with(backend: str, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """One call in which torch may use a single back end; it raises where that one cannot."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([getattr(SDPBackend, backend)]):
        return call(q, k, v, case, plan)


def refusal(backend: str, case: Case, device: str) -> str | None:
    """Why torch does not run a case on a back end, in its own words: asked on one small problem of the same kind."""
    import warnings

    import torch

    dims = {"device": device, "dtype": getattr(torch, case.dtype)}
    q = torch.zeros(1, case.heads_q, 2, case.head_dim, **dims)
    k = torch.zeros(1, case.heads_kv, 2, case.head_dim, **dims)
    v = torch.zeros(1, case.heads_kv, 2, case.head_dim_v, **dims)
    plan = object.__new__(Plan)
    plan.grouped = case.heads_q != case.heads_kv
    plan.causal = case.mask == "causal" and case.alignment == "top_left"
    plan.mask = None if plan.causal or case.mask == "none" else torch.ones(2, 2, dtype=torch.bool, device=device)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            call_with(backend, q, k, v, case, plan)
        except (RuntimeError, NotImplementedError) as error:
            words = [str(warning.message).partition(" (Triggered")[0] for warning in said]
            reasons = [text for text in words if "because" in text or "not" in text] or [str(error)]
            return f"torch {torch.__version__}: " + " ".join(dict.fromkeys(reasons))[:300]
    return None


def operators_of(run: Callable[[], object]) -> str:
    """The attention operators that torch dispatches to during a call: they name the back end that really runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: dict[str, None] = {}

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "attention" in func.name():
                seen.setdefault(func.name())
            return func(*args, **(kwargs or {}))

    with Spy():
        run()
    return ", ".join(seen) or "unfused: no attention operator was dispatched"


@attention("torch/sdpa", device=("cpu", "cuda"), unequal_head_dims=True, **SUPPORTED)
def sdpa(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """torch's scaled_dot_product_attention, which chooses a back end by itself."""
    return call(q, k, v, case, plan)


@attention("torch/sdpa-math", device=("cpu", "cuda"), unequal_head_dims=True, memory="O(n^2)", **SUPPORTED)
def math(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Its unfused back end."""
    return call_with("MATH", q, k, v, case, plan)


@attention("torch/sdpa-flash", device=("cpu", "cuda"), memory="O(n)", **SUPPORTED)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Its FlashAttention back end; on the CPU one of torch's own."""
    return call_with("FLASH_ATTENTION", q, k, v, case, plan)


@attention("torch/sdpa-efficient", device="cuda", unequal_head_dims=True, memory="O(n)", **SUPPORTED)
def efficient(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Its memory-efficient back end, on CUTLASS."""
    return call_with("EFFICIENT_ATTENTION", q, k, v, case, plan)


@attention("torch/sdpa-cudnn", device="cuda", memory="O(n)", **SUPPORTED)
def cudnn(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Its cuDNN back end."""
    return call_with("CUDNN_ATTENTION", q, k, v, case, plan)


for _implementation, _backend in (
    (sdpa, None),
    (math, "MATH"),
    (flash, "FLASH_ATTENTION"),
    (efficient, "EFFICIENT_ATTENTION"),
    (cudnn, "CUDNN_ATTENTION"),
):
    _implementation.prepare(Plan)
    _implementation.backend(operators_of)
    if _backend is not None:
        _implementation.supports(functools.partial(refusal, _backend))
