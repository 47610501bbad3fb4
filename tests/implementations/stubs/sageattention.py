"""Stand-in for sageattention with its signature (1.0.6) and its smoothing of K, computed by definition."""

from __future__ import annotations

from typing import Any

from reference import attend


def sageattn(
    q: Any, k: Any, v: Any, tensor_layout: str = "HND", is_causal: bool = False, sm_scale: float | None = None,
    smooth_k: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """(batch, heads, seqlen, dim) with HND."""
    assert (tensor_layout, kwargs) == ("HND", {})
    assert sm_scale is not None
    if smooth_k:
        k -= k.mean(dim=2, keepdim=True)
    return attend(q, k, v, scale=sm_scale, causal=is_causal)[0]
