"""Fused attention in Triton, forward and backward, written to be read: FlashAttention-2 with Hopper in mind.

- ``tiles.py``: what the kernels share; how a mask is two numbers for each row; ``lists.py``: how others are lists
- ``forward.py``, ``backward.py``, ``decode.py``: the kernels
- ``tuning.py``: tile sizes; ``plan.py``: preparation before the first call; ``launch.py``: the calls

The backward pass is always deterministic. float32 is multiplied in three TF32 products, which are nearly exact. On a
CPU the same kernels run in Triton's interpreter, which executes each of their operations in NumPy: good enough to check
their results, and far too slow to time.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

INTERPRETED_PAIRS = 2**20
"""Query-key pairs, over all heads, that the interpreter computes within seconds."""
WIDEST_HEAD = 256
MOST_PROGRAMS = 65_535
"""Along the second and third axis of a grid (CUDA C++ Programming Guide, "Compute Capabilities")."""
_FLOAT8_CAPABILITY = (8, 9)


@attention(
    "triton/flash",
    device=("cpu", "cuda"),
    dtypes=("float32", "float16", "bfloat16", "float8_e4m3fn"),
    masks=(
        "none",
        "causal",
        "sliding_window",
        "prefix_lm",
        "document",
        "key_padding",
        "left_padding",
        "tree",
        "block_sparse",
    ),
    mask_intersections=True,
    modes=("forward", "backward", "forward_backward"),
    score_mods=(
        "none",
        "softcap",
        "alibi",
        "relative_bias",
        "sink",
        "softcap & sink",
        "alibi & sink",
        "relative_bias & sink",
    ),
    alignments=("top_left", "bottom_right"),
    kv_caches=("dense", "paged", "latent"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    empty=True,
    gqa=True,
    unequal_head_dims=True,
    returns_lse=True,
    memory="O(n)",
    agreement_only=("cpu",),
    requires=("triton>=3.6",),
)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Any) -> tuple[Tensor, Tensor]:
    """Blocks of keys streamed past blocks of queries with an online softmax, in Triton."""
    launch = import_module(f"{__name__}.launch")
    result: tuple[Tensor, Tensor] = (launch.decode if plan.decodes else launch.forward)(plan, q, k, v)
    return result


@flash.backward
def flash_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients in two passes without atomics: equal inputs give equal bits."""
    gradients: tuple[Tensor, Tensor, Tensor] = import_module(f"{__name__}.launch").backward(
        plan, dout, q, k, v, out, lse
    )
    return gradients


@flash.prepare
def prepare(case: Case, operands: Operands) -> Any:
    """Prepare bounds and kernels; on a GPU, also compile every kernel and choose its tile sizes."""
    plan = import_module(f"{__name__}.plan").Plan(case, operands)
    if not plan.interpreted:
        out, lse = flash(operands.q, operands.k, operands.v, case, plan)
        if case.needs_gradients:
            flash_backward(operands.dout, operands.q, operands.k, operands.v, out, lse, case, plan)
    return plan


@flash.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the kernels cannot run the case in reasonable time, or ``None``."""
    if max(case.head_dim, case.head_dim_v) > WIDEST_HEAD:
        return f"its tiles hold whole heads, of at most {WIDEST_HEAD} dims"
    if case.kv_cache == "paged" and not {"tree", "block_sparse"}.isdisjoint(case.mask_kinds):
        return "its kernel for pages takes masks that show a query one run of keys"
    if device != "cpu":
        if case.batch * case.heads_q > MOST_PROGRAMS:
            return f"its grid has a row for each head of each batch element, of at most {MOST_PROGRAMS:,}"
        return _lacks_float8(case)
    if reason := _lacks_interpreter():
        return reason
    pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv * (3 if case.needs_gradients else 1)
    if pairs > INTERPRETED_PAIRS:
        return (
            f"on a CPU Triton's interpreter runs the kernels, and {pairs:,} query-key pairs over all heads "
            f"({'gradients count threefold' if case.needs_gradients else 'forward'}) would take it long "
            f"(at most {INTERPRETED_PAIRS:,})"
        )
    return None


def _lacks_interpreter() -> str | None:
    found = {name: tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")}
    if found["triton"] < (3, 7) and found["numpy"] >= (2, 4):
        return "on a CPU Triton's interpreter runs the kernels, and that of Triton 3.6 fails with NumPy 2.4 and later"
    return None


def _lacks_float8(case: Case) -> str | None:
    import torch

    if case.dtype == "float8_e4m3fn" and torch.cuda.get_device_capability() < _FLOAT8_CAPABILITY:
        return "this GPU multiplies no float8: compute capability 8.9 or newer does"
    return None


@flash.backend
def tile_sizes(run: Callable[[], object], plan: Any) -> str:
    """Return the chosen tile sizes, and how tiles are loaded."""
    run()
    return str(plan)
