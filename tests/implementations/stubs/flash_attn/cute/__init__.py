"""Stand-in for flash-attn-4 with its signature (cute/interface.py of 4.0.0b36), computed by definition."""

from __future__ import annotations

from typing import Any

from reference import attend, tokens_first


def flash_attn_func(
    q: Any, k: Any, v: Any, qv: Any = None, gather_kv_indices: Any = None, softmax_scale: float | None = None,
    causal: bool = False, window_size: Any = (None, None), learnable_sink: Any = None, softcap: float = 0.0,
    num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False, score_mod: Any = None,
    score_mod_bwd: Any = None, mask_mod: Any = None, aux_tensors: Any = None, aux_scalars: Any = None,
    block_sparse_tensors: Any = None, block_sparse_tensors_bwd: Any = None, return_lse: bool = False,
) -> Any:  # fmt: skip
    """(batch, seqlen, heads, dim); always a pair."""
    assert softmax_scale is not None
    window = tuple(-1 if side is None else side for side in window_size)
    out, lse = attend(
        *(tokens_first(x) for x in (q, k, v)), scale=softmax_scale, causal=causal, window=window, softcap=softcap,
        sinks=learnable_sink,
    )  # fmt: skip
    return tokens_first(out), lse if return_lse else None
