"""Stand-in for flashinfer with the signatures of docs.flashinfer.ai; NHD is (seqlen, heads, dim)."""

from __future__ import annotations

from typing import Any

from reference import attend


def single_prefill_with_kv_cache(
    q: Any, k: Any, v: Any, scale_q: Any = None, scale_k: Any = None, scale_v: Any = None, o_dtype: Any = None,
    custom_mask: Any = None, packed_custom_mask: Any = None, causal: bool = False, kv_layout: str = "NHD",
    pos_encoding_mode: str = "NONE", use_fp16_qk_reduction: bool = False, sm_scale: float | None = None,
    window_left: int = -1, logits_soft_cap: float | None = None,
) -> Any:  # fmt: skip
    """(seqlen_q, heads_q, dim)."""
    assert (kv_layout, q.dim()) == ("NHD", 3)
    assert sm_scale is not None
    heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
    out, _ = attend(
        *heads_first, scale=sm_scale, causal=causal, window=(window_left, -1), softcap=logits_soft_cap or 0.0
    )
    return out[0].transpose(0, 1)


def single_decode_with_kv_cache(
    q: Any, k: Any, v: Any, kv_layout: str = "NHD", pos_encoding_mode: str = "NONE", use_tensor_cores: bool = False,
    q_scale: Any = None, k_scale: Any = None, v_scale: Any = None, window_left: int = -1,
    logits_soft_cap: float | None = None, sm_scale: float | None = None,
) -> Any:  # fmt: skip
    """(heads_q, dim)."""
    assert q.dim() == 2
    return single_prefill_with_kv_cache(
        q[None], k, v, kv_layout=kv_layout, sm_scale=sm_scale, window_left=window_left, logits_soft_cap=logits_soft_cap
    )[0]
