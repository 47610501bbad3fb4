"""One kernel under four names; any two of them are an A/A pair."""

from __future__ import annotations

import torch

from attnbench import Case, attention
from tests.precision.precision_kernels import fused

NAMES = ("pair/a", "pair/b", "pair/c", "pair/d")


def _kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case) -> torch.Tensor:
    return fused(q, k, v)


_a, _b, _c, _d = (attention(name, device="cpu", dtypes=["float32"], masks=["none"])(_kernel) for name in NAMES)
