"""JAX's dot_product_attention: as cuDNN's fused kernel, and as what XLA makes of the definition. Forward only.

Written from docs.jax.dev; on CUDA neither was run. JAX takes most of a GPU's memory for itself unless told not to, and
its first import here tells it. On CUDA it is checked and not timed: JAX has streams of its own.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from attnbench import Case

SUPPORTED: dict[str, Any] = {
    "masks": ("none", "causal", "sliding_window"),
    "gqa": True,
    "layout": "bshd",
    "framework": "jax",
}


@attention(
    "jax/cudnn",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    memory="O(n)",
    requires=("jax>=0.11",),
    **SUPPORTED,
)
def cudnn(q: Any, k: Any, v: Any, case: Case) -> Any:
    """JAX's dot_product_attention as cuDNN's fused kernel."""
    return call("cudnn", q, k, v, case)


@attention(
    "jax/xla",
    device=("cpu", "cuda"),
    dtypes=("float32", "float16", "bfloat16"),
    requires=("jax>=0.10",),
    **SUPPORTED,
)
def xla(q: Any, k: Any, v: Any, case: Case) -> Any:
    """JAX's dot_product_attention as XLA compiles its definition."""
    return call("xla", q, k, v, case)


def call(implementation: str, q: Any, k: Any, v: Any, case: Case) -> Any:
    """One call, compiled by JAX once for each case."""
    return compiled(implementation, case.scale, case.mask == "causal", case.window_left, case.window_right)(
        q, k, v
    ).block_until_ready()


@functools.cache
def compiled(implementation: str, scale: float, causal: bool, window_left: int | None, window_right: int | None) -> Any:
    """The function for one way of asking."""
    import jax

    window = None if window_left is None else (window_left, window_right)

    def attend(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.dot_product_attention(
            q, k, v, scale=scale, is_causal=causal, local_window_size=window, implementation=implementation
        )

    return jax.jit(attend)


def refusal(case: Case, device: str) -> str | None:
    """Why XLA cannot run the case, or ``None``. Configures JAX, too: that must happen before its import."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu" and case.dtype == "float16":
        return "XLA has no product of float16 with float32 sums on a CPU"
    return None


for _implementation in (cudnn, xla):
    _implementation.supports(refusal)
