"""JAX's dot_product_attention: as cuDNN's fused kernel, and as what XLA makes of the definition. Forward only.

Written from docs.jax.dev, never run. JAX takes most of a GPU's memory for itself unless told not to, which its first
import here tells. On CUDA it is checked and not timed: JAX has streams of its own.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from attnbench import Case

SUPPORTED: dict[str, Any] = {
    "device": "cuda",
    "dtypes": ("float16", "bfloat16"),
    "masks": ("none", "causal", "sliding_window"),
    "gqa": True,
    "layout": "bshd",
    "framework": "jax",
    "requires": ("jax>=0.11",),
    "untested": True,
}


@attention("jax/cudnn", memory="O(n)", **SUPPORTED)
def cudnn(q: Any, k: Any, v: Any, case: Case) -> Any:
    """JAX's dot_product_attention as cuDNN's fused kernel, from its documentation."""
    return call("cudnn", q, k, v, case)


@attention("jax/xla", **SUPPORTED)
def xla(q: Any, k: Any, v: Any, case: Case) -> Any:
    """JAX's dot_product_attention as XLA compiles its definition, from its documentation."""
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
    """Nothing beyond the declaration; but JAX is about to be imported, and must know by then."""
    del case, device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return None


for _implementation in (cudnn, xla):
    _implementation.supports(refusal)
