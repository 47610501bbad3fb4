"""The kernels of the walks: three lines that are right, and the same without the scale."""

from __future__ import annotations

import torch

from attnbench import attention


def weighted(q, k, v, case, scale):
    """Attention in three lines."""
    scores = q @ k.transpose(-1, -2) * scale
    if case.mask == "causal":
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return scores.softmax(-1) @ v


@attention("mine/three-lines", masks=["none", "causal"])
def three_lines(q, k, v, case):
    """Right."""
    return weighted(q, k, v, case, case.scale)


@attention("mine/no-scale", masks=["none", "causal"], modes=["forward", "backward", "forward_backward"])
def no_scale(q, k, v, case):
    """Wrong wherever scores matter."""
    return weighted(q, k, v, case, 1.0)
