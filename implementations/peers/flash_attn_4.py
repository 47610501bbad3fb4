"""FlashAttention-4: Dao-AILab's kernels in CuTe DSL for Hopper and Blackwell, compiled at the first call.

Written from the interface of flash-attn-4 4.0.0b36 (``flash_attn/cute/interface.py``); never run. Install it by itself
(``attnbench[fa4]``): with it, ``flash_attn`` is a namespace package that xformers' import trips over, and its pin of
nvidia-cutlass-dsl is not that of nvidia-cudnn-frontend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "flash-attn/4",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal", "sliding_window"),
    modes=("forward", "backward", "forward_backward"),
    score_mods=("none", "sink"),
    alignments=("bottom_right",),
    gqa=True,
    layout="bshd",
    returns_lse=True,
    memory="O(n)",
    requires=("flash-attn-4>=4.0.0b36",),
    untested=True,
)
def flash4(q: Tensor, k: Tensor, v: Tensor, case: Case, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
    """FlashAttention-4 (CuTe DSL), from its documentation."""
    from flash_attn.cute import flash_attn_func

    window = (case.window_left, case.window_right) if case.mask == "sliding_window" else (None, None)
    out, lse = flash_attn_func(
        q,
        k,
        v,
        softmax_scale=case.scale,
        causal=case.mask == "causal",
        window_size=window,
        learnable_sink=sinks,
        return_lse=True,
    )
    return out, lse


@flash4.prepare
def sinks_of(case: Case, operands: Operands) -> Tensor | None:
    """Return the sinks, one logit per head, if the case has them."""
    del case
    sinks: Tensor | None = operands.sinks
    return sinks


@flash4.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the kernels cannot run the case according to their documentation, or ``None``."""
    del device
    if case.head_dim % 8 or not 8 <= case.head_dim <= 256:
        return f"head_dim {case.head_dim} is not a multiple of 8 up to 256"
    if case.score_mod == "sink" and case.needs_gradients:
        return "with a sink it has not been looked at how gradients are asked for"
    return None
