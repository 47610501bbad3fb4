"""JAX's dot_product_attention, as cuDNN's fused kernel and as compiled by XLA from its definition. Forward only.

Written from docs.jax.dev; neither has been run on CUDA. JAX preallocates most of a GPU's memory unless configured
otherwise, which is done before its first import here. On CUDA it is checked but not timed, as JAX has its own streams.

XLA takes masks other than causal and windows, and biases, as arrays. It returns NaN for a row that sees no key: such
rows are set to 0 after the call.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case, Operands

SUPPORTED: dict[str, Any] = {
    "gqa": True,
    "layout": "bshd",
    "framework": "jax",
}


@attention(
    "jax/cudnn",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal", "sliding_window"),
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
    masks=MASK_KINDS,
    mask_intersections=True,
    score_mods=("none", "alibi", "relative_bias", "bias"),
    score_mod_combinations=True,
    empty=True,
    alignments=("top_left", "bottom_right"),
    requires=("jax>=0.10",),
    **SUPPORTED,
)
def xla(q: Any, k: Any, v: Any, case: Case, plan: Any) -> Any:
    """JAX's dot_product_attention as XLA compiles its definition."""
    return call("xla", q, k, v, case, plan)


@xla.prepare
def additive(case: Case, operands: Operands) -> Any | None:
    """Return mask and bias as one array, (batch or 1, heads_q or 1, seqlen_q, seqlen_kv); ``None`` if flags suffice."""
    import jax

    if case.score_mod == "none" and case.seqlen_q == case.seqlen_kv and case.mask in cudnn.declaration.masks:
        return None
    table = operands.relative_bias
    bias = dense_bias(case, None if table is None else np.asarray(table, np.float64))
    seen: NDArray[np.float32] = np.where(dense_mask(case), 0.0 if bias is None else bias, -np.inf).astype(np.float32)
    return jax.device_put(seen, operands.q.device)


def call(implementation: str, q: Any, k: Any, v: Any, case: Case, bias: Any = None) -> Any:
    """Call JAX's function, which is compiled once per case."""
    said = case if bias is None else None  # the bias includes the mask
    causal, left, right = said and case.mask == "causal", said and case.window_left, said and case.window_right
    function = compiled(implementation, case.scale, bool(causal), left, right)
    return function(q, k, v, bias).block_until_ready()


@functools.cache
def compiled(implementation: str, scale: float, causal: bool, window_left: int | None, window_right: int | None) -> Any:
    """Return the compiled function for one set of options."""
    import jax

    window = None if window_left is None else (window_left, window_right)

    def attend(q: Any, k: Any, v: Any, bias: Any) -> Any:
        out = jax.nn.dot_product_attention(
            q, k, v, bias, scale=scale, is_causal=causal, local_window_size=window, implementation=implementation
        )
        if bias is None:
            return out
        import jax.numpy as jnp

        blind = jnp.isneginf(bias).all(-1).swapaxes(1, 2)[..., None]  # (batch or 1, seqlen_q, heads or 1, 1)
        return jnp.where(blind, 0, out)

    return jax.jit(attend)


def refusal(case: Case, device: str) -> str | None:
    """Return why XLA cannot run the case, or ``None``. It also configures JAX, which must happen before its import."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu" and case.dtype == "float16":
        return "XLA has no product of float16 with float32 sums on a CPU"
    return None


for _implementation in (cudnn, xla):
    _implementation.supports(refusal)
