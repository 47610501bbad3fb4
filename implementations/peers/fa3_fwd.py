"""FlashAttention-3 (Shah et al. 2024), forward only, as packed by the third-party distribution fa3-fwd.

Its interface is ``fa3_fwd_interface.py`` of 0.0.3. Its diagonal ends in the bottom right
corner. Float8 inputs are passed without scales, which means scales of 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case

HEAD_DIMS = (64, 96, 128, 192, 256)


@attention(
    "flash-attn/3-fwd",
    device="cuda",
    dtypes=("bfloat16", "float8_e4m3fn"),
    masks=("none", "causal"),
    alignments=("bottom_right",),
    gqa=True,
    layout="bshd",
    memory="O(n)",
    requires=("fa3-fwd>=0.0.3",),
)
def flash3(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """FlashAttention-3, forward only."""
    from fa3_fwd_interface import flash_attn_func

    out: Tensor = flash_attn_func(q, k, v, softmax_scale=case.scale, causal=case.mask == "causal")
    return out


@flash3.supports
def refusal(case: Case, device: str) -> str | None:
    """Return which limit of the compiled distribution the case exceeds, or ``None``."""
    del device
    if case.head_dim not in HEAD_DIMS:
        return f"head_dim {case.head_dim} is none of {', '.join(map(str, HEAD_DIMS))}"
    return None
