"""SageAttention (Zhang et al. 2024, arXiv:2410.02367): Q and K are rounded to 8-bit integers. Forward only.

Its interface is that of sageattention 1.0.6, which is written in Triton. It is ``wrong`` in 16-bit cases: it computes
with fewer bits than their budget assumes, by design, and it counts keys that do not exist
(``known-disagreements.md``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case

HEAD_DIMS = (64, 96, 128)


@attention(
    "sage/triton",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal"),
    gqa=True,
    memory="O(n)",
    requires=("sageattention>=1.0.6",),
)
def sage(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """SageAttention with 8-bit integer scores."""
    from sageattention import sageattn

    # Softmax is invariant to the keys' mean. Its own smooth_k subtracts that in place, which would change our K.
    k = k - k.mean(dim=2, keepdim=True)
    out: Tensor = sageattn(
        q, k, v, tensor_layout="HND", is_causal=case.mask == "causal", sm_scale=case.scale, smooth_k=False
    )
    return out


@sage.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why its kernels cannot run the case, or ``None``."""
    del device
    if case.head_dim not in HEAD_DIMS:
        return f"head_dim {case.head_dim} is none of {', '.join(map(str, HEAD_DIMS))}"
    return None
