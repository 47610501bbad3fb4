"""Stand-in for fa3-fwd with its signature (0.0.3), computed by definition."""

from __future__ import annotations

from typing import Any

from reference import attend, tokens_first


def flash_attn_func(
    q: Any, k: Any, v: Any, softmax_scale: float | None = None, causal: bool = False, qv: Any = None,
    q_descale: Any = None, k_descale: Any = None, v_descale: Any = None, window_size: Any = (-1, -1),
    attention_chunk: int = 0, softcap: float = 0.0, num_splits: int = 1, pack_gqa: Any = None,
    deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    """(batch, seqlen, heads, dim)."""
    assert softmax_scale is not None
    out, lse = attend(*(tokens_first(x) for x in (q, k, v)), scale=softmax_scale, causal=causal, window=window_size)
    return (tokens_first(out), lse) if return_attn_probs else tokens_first(out)
