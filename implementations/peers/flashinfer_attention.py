"""FlashInfer (Ye et al. 2025, arXiv:2501.01005): kernels for one request, prefill and decode. Forward only.

Written from docs.flashinfer.ai (0.6), never run. It compiles at the first call, for which it needs nvcc and ninja. Its
diagonal ends in the bottom right corner. The prefill kernel is slow for a single query, so decoding has its own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case

SUPPORTED: dict[str, Any] = {
    "device": "cuda",
    "dtypes": ("float16", "bfloat16"),
    "score_mods": ("none", "softcap"),
    "alignments": ("bottom_right",),
    "gqa": True,
    "layout": "bshd",
    "memory": "O(n)",
    "requires": ("flashinfer-python>=0.7.2",),
    "untested": True,
}


@attention("flashinfer/prefill", masks=("none", "causal", "sliding_window"), **SUPPORTED)
def prefill(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """FlashInfer's prefill kernel for one request, from its documentation."""
    import flashinfer

    out: Tensor = flashinfer.single_prefill_with_kv_cache(
        q[0],
        k[0],
        v[0],
        causal=case.mask != "none",
        kv_layout="NHD",
        sm_scale=case.scale,
        window_left=-1 if case.window_left is None else case.window_left,
        logits_soft_cap=case.softcap,
    )
    return out[None]


@attention("flashinfer/decode", masks=("none",), **SUPPORTED)
def decode(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """FlashInfer's decode kernel for one request, from its documentation."""
    import flashinfer

    out: Tensor = flashinfer.single_decode_with_kv_cache(
        q[0, 0], k[0], v[0], kv_layout="NHD", sm_scale=case.scale, logits_soft_cap=case.softcap
    )
    return out[None, None]


@prefill.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why one request cannot express the case, or ``None``."""
    del device
    if case.batch != 1:
        return "its kernel is for one request: batch must be 1"
    if case.mask == "sliding_window" and case.window_right:
        return "its window has no keys to the right of the diagonal: window_right must be 0"
    return None


@decode.supports
def decode_refusal(case: Case, device: str) -> str | None:
    """Return why one query of one request cannot express the case, or ``None``."""
    return refusal(case, device) or (None if case.seqlen_q == 1 else "it is for a single query: seqlen_q must be 1")
