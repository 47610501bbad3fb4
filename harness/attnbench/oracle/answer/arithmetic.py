"""Attention written out once, carried out in two arithmetics.

*Exact* is float64 throughout. The *low-precision reference* rounds what a fused kernel stores, or multiplies, in the
tested dtype: weights, the gradients of scores, and what is returned; an LSE to float32. For implementations that say so
(``stores_scores``) it rounds scores after each step, too, and the gradients of weights, as an ordinary unfused
computation does. The distance between the two on the same inputs is the yardstick for everybody else's error.

Between two roundings the low-precision reference adds up in float64, too. In float32 a sum's errors depend on its
order, which is the processor's and its library's: the yardstick would be another one on each machine. What those errors
may be in whatever order follows from the float64 values (:func:`term_sizes`).

The reference goes two ways, and each has its own rounding errors: to scale the scores and divide by the softmax's sum,
or to scale the queries and subtract the LSE, which is stored in float32, as every backward pass of a fused kernel does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.cases.bias import scores_in_bias

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """How numbers are multiplied and stored."""

    dtype: str | None
    """The dtype that stored tensors are rounded to, coarser than float64; ``None`` is exact."""
    through_lse: bool = False
    """Whether queries are scaled and weights are ``exp(score - LSE)``."""
    stores_scores: bool = False
    """Whether scores, and the gradients of weights, are stored; exact ones tell :func:`term_sizes`."""

    def store(self, tensor: Tensor) -> Tensor:
        """Round as storing does."""
        import torch

        if self.dtype is None:
            return tensor
        kept = "bfloat16" if self.dtype == "float8_e4m3fn" else self.dtype
        return tensor.to(getattr(torch, kept)).double()

    def store_score(self, tensor: Tensor) -> Tensor:
        """Round where scores are stored."""
        return self.store(tensor) if self.stores_scores else tensor

    def store_lse(self, lse: Tensor) -> Tensor:
        """Round as storing an LSE does, which nobody keeps in 16 bits."""
        return lse if self.dtype is None else lse.float().double()

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
        return self.store(a @ b)


EXACT = Arithmetic(None)
PLAIN = Arithmetic("float64")
"""Exact, without the sizes of terms, which take longer than the answer."""


@dataclasses.dataclass(frozen=True)
class Plane:
    """Some query rows of a head, with all the keys that they may see. Tensors are in float64.

    A leading axis of heads is possible, of this and all that follows: each is a problem of its own. ``hidden`` may lack
    it, and is the same for all heads then.
    """

    q: Tensor  # (rows, head_dim)
    k: Tensor  # (seqlen_kv, head_dim)
    v: Tensor  # (seqlen_kv, head_dim_v)
    hidden: Tensor | None  # (rows, seqlen_kv), True where the mask hides the key; None hides nothing
    bias: Tensor | None  # (rows, seqlen_kv)
    sink: float | Tensor | None  # of several heads (heads, 1, 1)
    dout: Tensor | None  # (rows, head_dim_v)
    keys: Tensor | None = None  # (n,), those whose gradients are wanted, of all heads; None is all
    kept: Tensor | None = None  # (rows, seqlen_kv), the factor of each weight with dropout: 0 or 1 / (1 - p)

    def dropped(self, weights: Tensor) -> Tensor:
        """Weights behind dropout, or gradients before it."""
        return weights if self.kept is None else weights * self.kept


@dataclasses.dataclass(frozen=True)
class Answer:
    """The outputs of attention for a plane. ``dk`` and ``dv`` are this plane's contribution only."""

    out: Tensor  # (rows, head_dim_v)
    lse: Tensor  # (rows,)
    dq: Tensor | None = None  # (rows, head_dim)
    dk: Tensor | None = None  # (keys, head_dim)
    dv: Tensor | None = None  # (keys, head_dim_v)
    dbias: Tensor | None = None  # (rows, seqlen_kv), before anything is added up
    terms: Terms | None = None


@dataclasses.dataclass(frozen=True)
class Terms:
    """Standard deviations of rounding errors of rows, in unit roundoffs of the accumulator; see :func:`term_sizes`."""

    out: Tensor  # (rows,)
    lse: Tensor  # (rows,)
    dq: Tensor | None = None  # (rows,)
    dk: Tensor | None = None  # (keys,), this plane's part
    dv: Tensor | None = None  # (keys,)
    dbias: Tensor | None = None  # (rows, seqlen_kv, 2), variances: of an element's errors, and of storing it
    stored: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """By tensor (rows,), in squared roundoffs of the accumulator: variances of errors that come of storing a factor of
    its products, weights or ``dscores``. The low-precision reference stores them, too; but of few numbers its errors
    are luck. Each stored number is off by up to a unit roundoff, by itself, which moves the row along a value (a key).
    Of a whole head (rows, 2): with them, the variance along one direction."""


@dataclasses.dataclass(frozen=True)
class Intermediates:
    """The intermediate tensors of a plane's attention, in float64."""

    raw: Tensor  # (rows, seqlen_kv), scores before cap, bias and mask
    slope: Tensor | None  # (rows, seqlen_kv), the cap's
    scores: Tensor  # (rows, seqlen_kv)
    weights: Tensor  # (rows, seqlen_kv)
    lse: Tensor  # (rows,)
    out: Tensor  # (rows, head_dim_v)
    upstream: Tensor | None = None  # (rows, seqlen_kv), the gradient of the weights
    dscores: Tensor | None = None  # (rows, seqlen_kv)
    dbias: Tensor | None = None  # (rows, seqlen_kv), behind the cap


def attend(arithmetic: Arithmetic, case: Case, plane: Plane) -> Answer:
    """Attention of one plane, forward and (where there is a ``dout``) backward.

    Scores are scaled, capped, biased, masked, in this order; a sink takes part in the softmax and has no value. Behind
    the softmax weights are dropped. A row
    that sees no key gives 0, an LSE of -inf (with a sink: the sink) and gradients of 0.
    """
    import torch

    if arithmetic.through_lse:
        scores = arithmetic.store_score(arithmetic.store_score(plane.q * case.scale) @ plane.k.mT)
    else:
        scores = arithmetic.store_score(arithmetic.store_score(plane.q @ plane.k.mT) * case.scale)
    raw, slope = scores, None
    if case.softcap is not None:
        capped = torch.tanh(scores / case.softcap)
        slope = 1 - capped * capped
        scores = arithmetic.store_score(case.softcap * capped)
    if plane.bias is not None:
        scores = arithmetic.store_score(scores + plane.bias)
    if plane.hidden is not None:
        scores = scores.masked_fill(plane.hidden, -torch.inf)
    empty = not plane.k.shape[-2]
    top = torch.full_like(plane.q[..., :1], -torch.inf) if empty else scores.amax(-1, keepdim=True)
    if plane.sink is not None:
        top = top.clamp_min(plane.sink)
    top = torch.where(torch.isneginf(top), 0.0, top)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    if plane.sink is not None:
        total = total + torch.exp(plane.sink - top)
    lse = arithmetic.store_lse((top + torch.log(total)).squeeze(-1))
    if arithmetic.through_lse and arithmetic.dtype != "float8_e4m3fn":
        weights = arithmetic.store(torch.exp(scores - torch.where(torch.isneginf(lse), 0.0, lse)[..., None]))
    else:
        weights = arithmetic.weigh(weights, torch.where(total == 0, 1.0, total))
    dropped = weights if plane.kept is None else arithmetic.store(plane.dropped(weights))
    out = arithmetic.matmul(dropped, plane.v)
    if plane.dout is None:
        met = Intermediates(raw, slope, scores, weights, lse, out)
        return Answer(out, lse, terms=_terms_where_exact(arithmetic, case, plane, met))
    upstream = plane.dropped(arithmetic.store_score(plane.dout @ plane.v.mT))
    delta = (plane.dout * out).sum(-1, keepdim=True)
    dscores = weights * (upstream - delta)
    dbias = arithmetic.store(dscores) if "dbias" in case.gradients else None
    if slope is not None:
        dscores = dscores * slope
    dscores = arithmetic.store(dscores)
    dq = arithmetic.store(arithmetic.matmul(dscores, plane.k) * case.scale)
    met = Intermediates(raw, slope, scores, weights, lse, out, upstream, dscores, dbias)
    terms = _terms_where_exact(arithmetic, case, plane, met)
    if plane.keys is not None:
        dscores, dropped = dscores[..., plane.keys], dropped[..., plane.keys]
    return Answer(
        out,
        lse,
        dq=dq,
        dk=(dscores.mT @ plane.q) * case.scale,
        dv=dropped.mT @ plane.dout,
        dbias=dbias,
        terms=terms,
    )


def _terms_where_exact(arithmetic: Arithmetic, case: Case, plane: Plane, met: Intermediates) -> Terms | None:
    if arithmetic.dtype is not None:
        return None
    return term_sizes(case, plane, met, stores_scores=arithmetic.stores_scores)


def term_sizes(case: Case, plane: Plane, met: Intermediates, *, stores_scores: bool) -> Terms:
    """How large the rounding errors of each row may be where they are no fraction of the row itself.

    A rounding is off by up to a unit roundoff of what it rounds, whose variance is a third of that squared.

    **Sums.** A sum of n products is rounded n times, each time relative to a partial sum. Part of the products is their
    mean, whose partial sums are at most the whole; the rest has random signs, so that in whatever order a partial sum's
    square is at most that of all products together. Hence the variance ``n ((sum ab)² + sum a²b²) / 3`` for any order:
    that of one accumulator, of lanes, of tiles, of a tree. Equal terms are rounded alike: where keys repeat, so do
    weights, and the errors of the softmax's sum add up with their number and not with its root: those of the output
    and of an LSE, from which a backward pass has its weights.

    **Scores.** An error of a score is absolute, and the exponential makes it a relative one of the weight: with large
    scores, rows in which two keys compete have errors far beyond all others'. With E² for the variance of a score's sum
    and of the roundings of its steps, S² for that of storing it in 16 bits (0 where scores are not stored), the first
    order of the softmax gives

    - an output row's error the variance ``sum_j w_ij² (E_ij² + S_ij²) |v_j - out_i|²``,
    - an LSE's error the variance ``sum_j w_ij² (E_ij² + S_ij² + W²)`` with W² for that of an exponential, which
      need be no more exact in 16 bits than the weights that are multiplied; there is one number for each row, so that
      the reference's errors of few rows are luck, and whoever stores scores in 16 bits may do so after each step,
    - a weight's relative error in the backward pass the variance ``S_ij² (1 - 2 w_ij) + sum_k w_ik² S_ik²``, as in the
      forward pass, and that of E_ij and of the LSE's own error, *added*. A fused backward pass computes scores anew and
      subtracts an LSE that it was given. Its product of keys and queries may add up in another order than the forward
      pass's of queries and keys did, as the processor's library has it; then the errors of both do not cancel, even
      where a single key has all the weight. The LSE itself was stored, and may be turned into one of base 2.

    **Cancellation.** ``dscores = weights * (upstream - delta)`` cancels: where a row sees a single key it is exactly
    zero, and what is computed is nothing but the rounding errors of both. ``upstream`` and ``delta`` are each a sum of
    ``head_dim_v`` products, stored where scores are; the output in ``delta`` is a sum over keys, and was stored anyway.
    An error of ``delta`` is common to all keys of a row, and moves dQ along the mean of the keys that it sees. And the
    ``dscores`` of a row add up to zero, so that a relative error that all its weights share cancels in dQ.
    """
    import torch

    of_scores = coarser(case) if stores_scores else 1.0
    weights, out, dropped = met.weights, met.out, plane.dropped(met.weights)
    squared = weights.square()
    squared_dropped = squared if plane.kept is None else dropped.square()
    fresh, steps, of_storing = _of_scores(case, plane, met)
    kept = of_scores**2 * of_storing if of_scores > 1 else None
    of_step = fresh if kept is None else fresh + steps * kept
    moved = squared * (fresh if kept is None else fresh + kept)  # (rows, keys)
    square_v = plane.v.norm(dim=-1).square()
    distances = plane.dropped(plane.dropped(square_v[..., None, :].expand_as(weights)) - 2 * out @ plane.v.mT)
    distances = distances + out.square().sum(-1, keepdim=True)
    cancelling = _cancelled_sums(_times(squared_dropped, square_v), out, case.seqlen_kv)
    alike = _times((weights > 0).double(), _repeated(plane.k)).square()[..., None] / 4  # half of their number, squared
    of_lse = (squared * (of_step + _of_exponentials(case))).sum(-1, keepdim=True) + alike / 3
    of_out = ((moved * distances.clamp_min(0)).sum(-1) + cancelling + (alike * out.square()).sum(-1) / 3).sqrt()
    stored = {"out": _times(squared_dropped, square_v)}
    if plane.dout is None or met.upstream is None or met.dscores is None:
        return Terms(of_out, of_lse.squeeze(-1).sqrt(), stored=_in_roundoffs(case, stored))
    stored_lse = 2 * torch.where(torch.isfinite(met.lse), met.lse, 0.0).square()[..., None] / 3
    relative = fresh + (moved.sum(-1, keepdim=True) + stored_lse + alike / 3)
    relative = relative if kept is None else relative + kept * (1 - 2 * weights)
    square_dout = plane.dout.square()
    delta = (plane.dout * out).sum(-1, keepdim=True)
    cancelling = (met.upstream - delta).square()
    products = plane.dropped(plane.dropped(square_dout @ plane.v.square().mT))
    products += square_dout.mul(out.square()).sum(-1, keepdim=True)
    accumulated = _roundings(case, case.head_dim_v) * (met.upstream.square() + delta.square() + products)
    of_sums = (case.seqlen_kv + alike) * out.square() + case.seqlen_kv * (squared_dropped @ plane.v.square())
    of_output = (square_dout * (coarser(case) ** 2 * out.square() + of_sums)).sum(-1, keepdim=True)
    cancelled = ((of_scores * (met.upstream.abs() + delta.abs())).square() + of_output + accumulated) / 3
    of_delta = (moved * cancelling).sum(-1, keepdim=True)
    squares = squared * (cancelled + relative * cancelling + of_delta)
    dbias = None
    if met.dbias is not None:
        of_adding = scores_in_bias(case) * met.dbias.square() / 3
        dbias = torch.stack([squares + of_adding, coarser(case) ** 2 / 3 * met.dbias.square()], -1)
    squared_dscores = met.dscores.square()
    added = squared_dscores / 3  # times the number of terms: keys for dQ, queries for dK
    square_k = plane.k.square().sum(-1)
    in_common = ((weights @ plane.k).square().sum(-1) - _times(squared, square_k)).clamp_min(0) * of_output[..., 0] / 3
    dq = (_times(squares + case.seqlen_kv * added, square_k) + in_common).sqrt() * case.scale
    squares = squares + case.seqlen_q * (case.heads_q // case.heads_kv) * added
    stored["dq"] = case.scale**2 * _times(squared_dscores, square_k)
    of_keys = [squares, squared_dropped * relative, squared_dscores, squared_dropped]
    if plane.keys is not None:
        of_keys = [of_pairs[..., plane.keys] for of_pairs in of_keys]
    norms = [case.scale**2 * plane.q.square().sum(-1), square_dout.sum(-1)] * 2
    dk, dv, stored["dk"], stored["dv"] = map(_times, (of_pairs.mT for of_pairs in of_keys), norms)
    return Terms(
        of_out,
        of_lse.squeeze(-1).sqrt(),
        dq=dq,
        dk=dk.sqrt(),
        dv=dv.sqrt(),
        dbias=dbias,
        stored=_in_roundoffs(case, stored),
    )


def _of_scores(case: Case, plane: Plane, met: Intermediates) -> tuple[Tensor, int, Tensor]:
    """Variance of the errors of fresh scores, the number of their steps, and the variance of rounding one step."""
    import torch

    steps = 2 + (case.softcap is not None) + (plane.bias is not None)  # the product, its scale, the cap, the bias
    of_rounding = torch.where(met.weights == 0, 0.0, met.scores).square() / 3
    products = plane.q.square() @ plane.k.square().mT * case.scale**2
    of_sums = _roundings(case, case.head_dim) / 3 * (met.raw.square() + products)
    if met.slope is not None:  # the cap's
        of_sums *= met.slope.square()
    return of_sums + steps * of_rounding, steps, of_rounding


def _in_roundoffs(case: Case, squares: dict[str, Tensor]) -> dict[str, Tensor]:
    """Variances of errors of rows whose factors are stored, of the squares of all products of a row, added up."""
    return {name: coarser(case) ** 2 / 3 * of_rows for name, of_rows in squares.items()}


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of matrices and vectors, both with any leading axes."""
    return (matrices @ vectors[..., None]).squeeze(-1)


def _repeated(keys: Tensor) -> Tensor:
    """Whether each of a head's keys (keys, head_dim) occurs more than once, as 0 or 1: by a hash of its bits."""
    import torch

    rows = keys.contiguous().view(torch.int64)
    odd = torch.arange(rows.shape[-1], dtype=torch.int64) * 0x5851F42D4C957F2D + 1  # sums of products wrap around
    hashes, places = ((rows ^ (rows >> 32)) * odd).sum(-1).sort(-1)
    as_before = hashes.diff(dim=-1) == 0
    repeated = torch.zeros_like(hashes, dtype=torch.float64)
    repeated[..., 1:][as_before] = 1
    repeated[..., :-1][as_before] = 1
    return torch.empty_like(repeated).scatter_(-1, places, repeated)


def _cancelled_sums(squares: Tensor, result: Tensor, length: int) -> Tensor:
    """Variance of a sum's roundings, (rows,), as far as its products are larger than what they add up to.

    A budget has room for roundings relative to the result. Of few columns it may happen that all but nothing is left.

    Args:
        squares: of the products of a row, all columns together, added up: (rows,).
        result: (rows, columns).
        length: how many products make one element.
    """
    return length * (squares - result.square().sum(-1)).clamp_min(0) / 3


def _of_exponentials(case: Case) -> float:
    """Variance of an exponential's relative error, in unit roundoffs of the accumulator.

    For 16-bit weights a polynomial of low degree is good enough: FlashAttention-4's (arXiv:2603.05451) is off by up to
    8.8e-5, so that 2^-13 is allowed for; else by one roundoff.
    """
    return (1.0 if case.output_dtype in ("float32", "float64") else 2.0**11) ** 2 / 3


def coarser(case: Case) -> float:
    """Unit roundoff of what is stored, in those of the accumulator."""
    import torch

    summed = torch.float64 if case.dtype == "float64" else torch.float32
    return float(torch.finfo(getattr(torch, case.output_dtype)).eps / torch.finfo(summed).eps)


def _roundings(case: Case, dim: int) -> int:
    """Roundings of a sum over a head's columns; behind projections both factors of its products are sums themselves.

    The error of a projected vector is spread over its columns as the vector is, so that each of its roundings moves the
    product no more than rounding every term would: once for the mean and once for the random part, of either factor.
    """
    return dim + (4 * case.embed_dim if case.operator == "multi_head_attention" else 0)
