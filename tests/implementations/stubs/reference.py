"""Attention in float64, as documented by the stubbed libraries."""

from __future__ import annotations

from typing import Any

import torch


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, scale: float, causal: bool = False, top_left: bool = False,
    window: tuple[int, int] = (-1, -1), softcap: float = 0.0, sinks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return output and LSE of (batch, heads, seqlen, dim); neighbouring query heads may share heads of K and V.

    The diagonal ends in the bottom right corner; a window of -1 is unbounded on that side.
    """
    group = q.shape[1] // k.shape[1]
    wide = [x.double() for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))]
    scores = wide[0] @ wide[1].mT * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    rows, keys = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])[None, :]
    distance = keys - rows - (0 if top_left else k.shape[2] - q.shape[2])
    left, right = window
    hidden = (distance > 0) if causal else torch.zeros_like(distance, dtype=torch.bool)
    hidden = hidden | ((distance < -left) if left >= 0 else False) | ((distance > right) if right >= 0 else False)
    scores = scores.masked_fill(hidden, -torch.inf)
    competitors = scores
    if sinks is not None:
        competitors = torch.cat([scores, sinks.double()[None, :, None, None].expand(*scores.shape[:3], 1)], -1)
    lse = competitors.logsumexp(-1)
    out = torch.exp(scores - lse[..., None]).nan_to_num() @ wide[2]
    return out.to(q.dtype), lse.float()


def tokens_first(x: Any) -> Any:
    """Swap the axes of heads and tokens."""
    return x.transpose(1, 2)
