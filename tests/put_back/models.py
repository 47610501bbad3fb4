"""Small models whose attention is replaced by implementations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS = 32, 4, 3
KERNEL = """
import torch
from attnbench import attention

@attention("mine/kernel", masks=["none", "causal"])
def kernel(q, k, v, case):
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=case.mask == "causal", scale={factor} * case.scale)
"""


class Block(nn.Module):
    """Typical self-attention with a residual connection."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = dropout

    def forward(self, x: Tensor, **masking: Any) -> Tensor:
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (part.view(*part.shape[:2], HEADS, -1).transpose(1, 2) for part in parts)
        p = self.dropout if self.training else 0.0
        out = functional.scaled_dot_product_attention(q, k, v, dropout_p=p, **masking)
        projected: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return x + projected


class Model(nn.Module):
    """Three blocks."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(LAYERS))
        self.eval()

    def forward(self, x: Tensor, **masking: Any) -> Tensor:
        for block in self.blocks:
            x = block(x, **masking)
        return x


def tokens(seqlen: int = 24, batch: int = 2) -> Tensor:
    """Return inputs for a model."""
    return torch.randn(batch, seqlen, WIDTH, generator=torch.Generator().manual_seed(1))
