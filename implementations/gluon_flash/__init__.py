"""Fused attention for Hopper in Gluon, forward only: some warps fetch tiles while others compute.

- ``forward.py``: the kernel and its consumers; ``tiles.py``: its producer, and the parts that both share
- ``launch.py``: variants of the kernel, and the calls

``triton/flash`` leaves the overlap of loads and computation to the compiler; this kernel schedules it explicitly. In
return it is limited to one generation of GPUs, two head dims, and full or causal masks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

HEAD_DIMS = (64, 128)
CAPABILITY = (9, 0)


@attention(
    "gluon/flash",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal"),
    alignments=("top_left", "bottom_right"),
    gqa=True,
    returns_lse=True,
    memory="O(n)",
    requires=("triton>=3.6",),
)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, variant: Any) -> tuple[Tensor, Tensor]:
    """Attention by warps with roles of their own, in Gluon: one fetches tiles, the others compute."""
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:3], dtype=import_module("torch").float32)
    import_module(f"{__name__}.launch").launch(
        variant, q, k, v, out, lse, causal=case.mask == "causal", offset=case.diagonal_offset, scale=case.scale
    )
    return out, lse


@flash.prepare
def prepare(case: Case, operands: Operands) -> Any:
    """Compile the variant for the head dim and the mask."""
    variant = import_module(f"{__name__}.launch").BEST[case.head_dim, case.mask]
    flash(operands.q, operands.k, operands.v, case, variant)
    return variant


@flash.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the kernel cannot run the case, or ``None``."""
    if case.head_dim not in HEAD_DIMS:
        return f"its tiles hold heads of {' or '.join(map(str, HEAD_DIMS))} dims, not {case.head_dim}"
    return _other_generation() if device == "cuda" else None


def _other_generation() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None  # the harness reports that
    found = torch.cuda.get_device_capability()
    if found != CAPABILITY:
        return "its instructions are those of compute capability {}.{}; this GPU has {}.{}".format(*CAPABILITY, *found)
    return None


@flash.backend
def variant_used(run: Callable[[], object], variant: Any) -> str:
    """Return the chosen variant."""
    run()
    return str(variant)
