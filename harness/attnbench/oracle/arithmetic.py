"""Attention written out once, carried out in two arithmetics.

*Exact* is float64 throughout. *Honest* is what an ordinary unfused computation in the tested dtype does: matrix
products accumulate in float32, and every tensor that such a computation stores is rounded to the dtype. The distance
between the two on the same inputs is the yardstick for everybody else's error.

There are two honest ways, and each has its own rounding errors: to scale the scores and divide by the softmax's sum, or
to scale the queries and subtract the LSE, which is stored in float32, as every backward pass of a fused kernel does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """How numbers are multiplied and stored."""

    dtype: str | None
    """The dtype that stored tensors are rounded to; ``None`` is exact."""
    through_lse: bool = False
    """Whether queries are scaled and weights are ``exp(score - LSE)``."""

    def load(self, tensor: Tensor) -> Tensor:
        """An input, which already has the dtype's values, in the type that this arithmetic computes in."""
        return tensor.double() if self.dtype in (None, "float64") else tensor.float()

    def store(self, tensor: Tensor) -> Tensor:
        """Round as storing does."""
        import torch

        if self.dtype in (None, "float64", "float32"):
            return tensor
        kept = "bfloat16" if self.dtype == "float8_e4m3fn" else self.dtype
        return tensor.to(getattr(torch, kept)).to(tensor.dtype)

    def weigh(self, weights: Tensor, total: Tensor) -> Tensor:
        """The softmax's weights as the factor of a matrix product, from ``exp(score - maximum)`` and their sum.

        Where the inputs are float8 that factor is float8 too: the hardware multiplies equals. As in fused kernels it is
        rounded before it is divided, times 256, which its type has room for (Shah et al. 2024, FlashAttention-3,
        section 3.3, round so; the factor is FlashAttention-3's and 4's).
        """
        import torch

        if self.dtype != "float8_e4m3fn":
            return self.store(weights / total)
        return (256 * weights).to(torch.float8_e4m3fn).to(weights.dtype) / (256 * total)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product, stored."""
        if self.dtype == "float64":  # nothing is coarser here: the other order of summation is the honest difference
            return a.flip(-1) @ b.flip(-2)
        return self.store(a @ b)


EXACT = Arithmetic(None)


@dataclasses.dataclass(frozen=True)
class Plane:
    """Some query rows of one head, with all the keys that they may see. Tensors are in the arithmetic's type."""

    q: Tensor  # (rows, head_dim)
    k: Tensor  # (seqlen_kv, head_dim)
    v: Tensor  # (seqlen_kv, head_dim_v)
    hidden: Tensor | None  # (rows, seqlen_kv), True where the mask hides the key; None hides nothing
    bias: Tensor | None  # (rows, seqlen_kv)
    sink: float | None
    dout: Tensor | None  # (rows, head_dim_v)
    keys: Tensor | None = None  # (n,), those whose gradients are wanted; None is all


@dataclasses.dataclass(frozen=True)
class Answer:
    """What attention gives for a plane. ``dk`` and ``dv`` are this plane's contribution only."""

    out: Tensor  # (rows, head_dim_v)
    lse: Tensor  # (rows,)
    dq: Tensor | None = None  # (rows, head_dim)
    dk: Tensor | None = None  # (keys, head_dim)
    dv: Tensor | None = None  # (keys, head_dim_v)
    terms: Terms | None = None


@dataclasses.dataclass(frozen=True)
class Terms:
    """How large rounding errors of each row may be, in unit roundoffs of the accumulator; see :func:`term_sizes`."""

    out: Tensor  # (rows,)
    lse: Tensor  # (rows,), standard deviations
    dq: Tensor | None = None  # (rows,)
    dk: Tensor | None = None  # (keys,), this plane's part
    dv: Tensor | None = None  # (keys,)


def attend(arithmetic: Arithmetic, case: Case, plane: Plane) -> Answer:
    """Attention of one plane, forward and (where there is a ``dout``) backward.

    Scores are scaled, capped, biased, masked, in this order; a sink takes part in the softmax and has no value. A row
    that sees no key gives 0, an LSE of -inf (with a sink: the sink) and gradients of 0.
    """
    import torch

    if arithmetic.through_lse:
        scores = arithmetic.matmul(arithmetic.store(plane.q * case.scale), plane.k.T)
    else:
        scores = arithmetic.store(arithmetic.matmul(plane.q, plane.k.T) * case.scale)
    slope = None
    if case.softcap is not None:
        capped = torch.tanh(scores / case.softcap)
        slope = 1 - capped * capped
        scores = arithmetic.store(case.softcap * capped)
    if plane.bias is not None:
        scores = arithmetic.store(scores + plane.bias)
    if plane.hidden is not None:
        scores = scores.masked_fill(plane.hidden, -torch.inf)
    top = scores.amax(-1, keepdim=True)
    if plane.sink is not None:
        top = top.clamp_min(plane.sink)
    top = torch.where(torch.isneginf(top), 0.0, top)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    if plane.sink is not None:
        total = total + torch.exp(plane.sink - top)
    lse = (top + torch.log(total)).squeeze(-1)
    if arithmetic.through_lse and arithmetic.dtype != "float8_e4m3fn":
        weights = arithmetic.store(torch.exp(scores - torch.where(torch.isneginf(lse), 0.0, lse)[:, None]))
    else:
        weights = arithmetic.weigh(weights, torch.where(total == 0, 1.0, total))
    out = arithmetic.matmul(weights, plane.v)
    if plane.dout is None:
        terms = term_sizes(case, plane, scores, weights, out) if arithmetic is EXACT else None
        return Answer(out, lse, terms=terms)
    upstream = arithmetic.matmul(plane.dout, plane.v.T)
    delta = (plane.dout * out).sum(-1, keepdim=True)
    dscores = weights * (upstream - delta)
    if slope is not None:
        dscores = dscores * slope
    dscores = arithmetic.store(dscores)
    dq = arithmetic.store(arithmetic.matmul(dscores, plane.k) * case.scale)
    terms = term_sizes(case, plane, scores, weights, out, upstream) if arithmetic is EXACT else None
    if plane.keys is not None:
        dscores, weights = dscores[:, plane.keys], weights[:, plane.keys]
    return Answer(
        out,
        lse,
        dq=dq,
        dk=(dscores.T @ plane.q) * case.scale,
        dv=weights.T @ plane.dout,
        terms=terms,
    )


def term_sizes(
    case: Case, plane: Plane, scores: Tensor, weights: Tensor, out: Tensor, upstream: Tensor | None = None
) -> Terms:
    """How large the rounding errors of each row may be where they are no fraction of the row itself.

    **Scores.** An error of a score is absolute, and the exponential makes it a relative one of the weight: with large
    scores, rows in which two keys compete have errors far beyond all others'. A score is a sum of ``head_dim`` products
    of random signs, whose accumulated error is about a unit roundoff of the product of the two vectors' norms, and it
    is stored once. With E for that size, errors of the scores being independent, the first order of the softmax gives

    - a weight's relative error the variance ``E_ij² (1 - 2 w_ij) + sum_k w_ik² E_ik²``,
    - an output row's error the variance ``sum_j w_ij² E_ij² |v_j - out_i|²``,
    - an LSE's error the variance ``sum_j w_ij² E_ij² / 3`` (rounding to nearest is off by a uniform error of up to half
      the spacing, whose variance is a third of that squared). Of an LSE there is one number for each row, so that the
      honest errors of few rows are luck; and whoever stores scores in 16 bits may do so after each of their steps.

    **Cancellation.** ``dscores = weights * (upstream - delta)`` cancels: where a row sees a single key it is exactly
    zero, and what is computed is nothing but the rounding errors of both. ``upstream`` and ``delta`` are each stored
    once, and each is a sum of ``head_dim_v`` products of random signs.
    """
    import torch

    stored = torch.finfo(getattr(torch, case.output_dtype)).eps
    summed = torch.finfo(torch.float64 if case.dtype == "float64" else torch.float32).eps
    norm_v = plane.v.norm(dim=-1)
    of_storing = stored / summed * torch.where(weights == 0, 0.0, scores).abs()
    of_products = case.scale * plane.q.norm(dim=-1, keepdim=True) * plane.k.norm(dim=-1)
    steps = 2 + (case.softcap is not None) + (plane.bias is not None)  # the product, its scale, the cap, the bias
    of_lse = (weights.square() * (steps * of_storing.square() + of_products.square()) / 3).sum(-1).sqrt()
    of_scores = of_storing + of_products
    moved = (weights * of_scores).square()  # (rows, keys)
    distances = norm_v.square() - 2 * out @ plane.v.T + out.square().sum(-1, keepdim=True)
    of_out = (moved * distances.clamp_min(0)).sum(-1).sqrt()
    if plane.dout is None or upstream is None:
        return Terms(of_out, of_lse)
    norm_dout = plane.dout.norm(dim=-1, keepdim=True)
    delta = (plane.dout * out).sum(-1, keepdim=True)
    relative = (of_scores.square() * (1 - 2 * weights) + moved.sum(-1, keepdim=True)).clamp_min(0)  # squared
    accumulated = norm_dout * (norm_v + out.norm(dim=-1, keepdim=True))
    cancelled = (stored / summed * (upstream.abs() + delta.abs()) + accumulated).square()
    of_delta = (moved * (upstream - delta).square()).sum(-1, keepdim=True)
    squares = weights.square() * (cancelled + relative * (upstream - delta).square() + of_delta)
    of_dv = weights.square() * relative * norm_dout.square()
    dq = (squares @ plane.k.square().sum(-1)).sqrt() * case.scale
    if plane.keys is not None:
        squares, of_dv = squares[:, plane.keys], of_dv[:, plane.keys]
    dk = (squares.T @ plane.q.square().sum(-1)).sqrt() * case.scale
    return Terms(of_out, of_lse, dq=dq, dk=dk, dv=of_dv.sum(0).sqrt())
