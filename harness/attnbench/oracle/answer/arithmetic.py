"""Attention, written once and evaluated in two arithmetics.

*Exact* is float64 throughout. The *low-precision reference* rounds to the tested dtype whatever a fused kernel stores
or multiplies in that dtype: weights, the gradients of scores, and the outputs; an LSE is rounded to float32. For
implementations that declare ``stores_scores``, it also rounds scores after each step, and the gradients of weights, as
an unfused computation does. The budget of an implementation is derived from the distance between the two on the same
inputs.

Between two roundings the low-precision reference sums in float64, too. The errors of a float32 sum depend on its order,
which depends on the processor and the library, so budgets would differ between machines. :func:`term_sizes` derives the
size of those errors, for any order, from the float64 values.

The reference is computed in two ways, with different rounding errors: by scaling the scores and dividing by the
softmax's sum, or by scaling the queries and subtracting the LSE, stored in float32, as the backward pass of every fused
kernel does.
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
    """The precision of stored tensors, and the way in which weights are computed."""

    dtype: str | None
    """The dtype that stored tensors are rounded to; ``None`` for exact arithmetic, which also returns ``terms``."""
    through_lse: bool = False
    """Whether queries are scaled and weights are ``exp(score - LSE)``."""
    stores_scores: bool = False
    """Whether scores and the gradients of weights are stored; exact arithmetic passes it to :func:`term_sizes`."""

    def store(self, tensor: Tensor) -> Tensor:
        """Round a tensor to the stored dtype."""
        import torch

        if self.dtype is None:
            return tensor
        kept = "bfloat16" if self.dtype == "float8_e4m3fn" else self.dtype
        return tensor.to(getattr(torch, kept)).double()

    def store_score(self, tensor: Tensor) -> Tensor:
        """Round a tensor if scores are stored."""
        return self.store(tensor) if self.stores_scores else tensor

    def store_lse(self, lse: Tensor) -> Tensor:
        """Round an LSE to float32, in which all kernels store it."""
        return lse if self.dtype is None else lse.float().double()

    def weigh(self, weights: Tensor, total: Tensor) -> Tensor:
        """Return the softmax's weights, as they enter the product with V, from ``exp(score - maximum)`` and its sum.

        With float8 inputs they are float8 too, as the hardware multiplies operands of one dtype. As in fused kernels,
        they are rounded before the division by the sum, multiplied by 256 to use the range of float8 (Shah et al. 2024,
        FlashAttention-3, section 3.3; FlashAttention-3 and 4 use that factor).
        """
        import torch

        if self.dtype != "float8_e4m3fn":
            return self.store(weights / total)
        return (256 * weights).to(torch.float8_e4m3fn).to(weights.dtype) / (256 * total)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the matrix product, rounded to the stored dtype."""
        return self.store(a @ b)


EXACT = Arithmetic(None)
PLAIN = Arithmetic("float64")
"""Exact, but without ``terms``, which take longer to compute than the answer."""


@dataclasses.dataclass(frozen=True)
class Plane:
    """Some query rows of a head, with all the keys that they may see. Tensors are in float64.

    These tensors, and all that are computed from them, may have a leading axis of independent heads. ``hidden`` may
    lack it, and is then shared by all heads.
    """

    q: Tensor  # (rows, head_dim)
    k: Tensor  # (seqlen_kv, head_dim)
    v: Tensor  # (seqlen_kv, head_dim_v)
    hidden: Tensor | None  # (rows, seqlen_kv), True where the mask hides the key; None hides nothing
    bias: Tensor | None  # (rows, seqlen_kv)
    sink: float | Tensor | None  # (heads, 1, 1) for several heads
    dout: Tensor | None  # (rows, head_dim_v)
    keys: Tensor | None = None  # (n,), keys whose gradients are wanted, in all heads; None is all
    kept: Tensor | None = None  # (rows, seqlen_kv), dropout's factor of each weight: 0 or 1 / (1 - p)

    def dropped(self, weights: Tensor) -> Tensor:
        """Apply dropout to weights, or its backward pass to their gradients."""
        return weights if self.kept is None else weights * self.kept


@dataclasses.dataclass(frozen=True)
class Answer:
    """The outputs of attention for a plane. ``dk`` and ``dv`` are this plane's contribution only."""

    out: Tensor  # (rows, head_dim_v)
    lse: Tensor  # (rows,)
    dq: Tensor | None = None  # (rows, head_dim)
    dk: Tensor | None = None  # (keys, head_dim)
    dv: Tensor | None = None  # (keys, head_dim_v)
    dbias: Tensor | None = None  # (rows, seqlen_kv), before any summation
    terms: Terms | None = None


@dataclasses.dataclass(frozen=True)
class Terms:
    """Standard deviations of rows' rounding errors, in unit roundoffs of the accumulator; see :func:`term_sizes`."""

    out: Tensor  # (rows,)
    lse: Tensor  # (rows,)
    dq: Tensor | None = None  # (rows,)
    dk: Tensor | None = None  # (keys,), this plane's contribution
    dv: Tensor | None = None  # (keys,)
    dbias: Tensor | None = None  # (rows, seqlen_kv, 2), variances of each element: of its errors, and of storing it
    stored: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Variances (rows,) of errors from storing a factor of a tensor's products, weights or ``dscores``, by tensor, in
    squared unit roundoffs of the accumulator. The low-precision reference stores them, too, but if there are few
    numbers, its errors may be small by luck. Each stored number has an independent error of up to one unit roundoff,
    which moves the row along a value or a key. For whole heads (rows, 2): also the variance along one direction."""


@dataclasses.dataclass(frozen=True)
class Intermediates:
    """The intermediate tensors of a plane's attention, in float64."""

    raw: Tensor  # (rows, seqlen_kv), scores before cap, bias and mask
    slope: Tensor | None  # (rows, seqlen_kv), the cap's derivative
    scores: Tensor  # (rows, seqlen_kv)
    weights: Tensor  # (rows, seqlen_kv)
    lse: Tensor  # (rows,)
    out: Tensor  # (rows, head_dim_v)
    upstream: Tensor | None = None  # (rows, seqlen_kv), the gradient of the weights
    dscores: Tensor | None = None  # (rows, seqlen_kv)
    dbias: Tensor | None = None  # (rows, seqlen_kv), the gradient of the capped scores


def attend(arithmetic: Arithmetic, case: Case, plane: Plane) -> Answer:
    """Compute the attention of one plane, forward and, if there is a ``dout``, backward.

    Scores are scaled, capped, biased and masked, in this order. A sink takes part in the softmax and has no value.
    Dropout applies to the softmax's weights. A row that sees no key has an output of 0, an LSE of -inf (with a sink:
    the sink) and gradients of 0.
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
    """Return the sizes of each row's rounding errors that are not proportional to the row itself.

    The error of a rounding is taken as uniform up to one unit roundoff u of the rounded number: its variance is u² / 3.

    **Sums.** A sum of n products is rounded n times, each time relative to a partial sum. The products are their mean
    plus a rest with random signs. The partial sums of the mean are at most the whole sum, and the squared partial sums
    of the rest are at most the sum of all squared products, in any order. Hence the variance
    ``n ((sum ab)² + sum a²b²) / 3``, which holds for one accumulator, lanes, tiles and trees. Equal terms have equal
    rounding errors: where keys repeat, so do weights, and the errors of the softmax's sum grow with the number of
    copies instead of its square root. That affects the output and the LSE, from which a backward pass recomputes the
    weights.

    **Scores.** The exponential turns an absolute error of a score into a relative error of the weight: with large
    scores, rows in which two keys compete have by far the largest errors. Let E² be the variance of the errors of a
    score's sum and of the roundings of its steps, and S² that of storing it in 16 bits (0 if scores are not stored).
    To first order, the softmax gives these variances:

    - For an output row, ``sum_j w_ij² (E_ij² + S_ij²) |v_j - out_i|²``.
    - For an LSE, ``sum_j w_ij² (E_ij² + S_ij² + W²)``, where W² is that of an exponential, which in 16 bits need not be
      more accurate than the weights. As an LSE is one number per row, the reference's errors of few rows may be small
      by luck. S² is counted once per step, as an implementation may store scores in 16 bits after each step.
    - For a weight's relative error in the backward pass, ``S_ij² (1 - 2 w_ij) + sum_k w_ik² S_ik²``, as in the forward
      pass, *plus* E_ij² and the variance of the LSE's error. A fused backward pass recomputes the scores and subtracts
      a given LSE. It may sum the product of keys and queries in another order than the forward pass, and then the
      errors of the two do not cancel, even if a single key has all the weight. The LSE was rounded when it was stored,
      and may be converted to base 2.

    **Cancellation.** ``dscores = weights * (upstream - delta)`` cancels: if a row sees a single key it is exactly zero,
    and the computed value consists of rounding errors alone. ``upstream`` and ``delta`` are sums of ``head_dim_v``
    products each, and are stored if scores are; the output in ``delta`` is a sum over keys and is always stored. An
    error of ``delta`` is common to all keys of a row, and moves dQ along the mean of the visible keys. The ``dscores``
    of a row sum to zero, so a relative error that is common to all its weights cancels in dQ.
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
    alike = _alike(case, plane, met).square()[..., None] / 4  # half of their number, squared
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
    """Return the variance of errors of scores that are not stored, the number of steps, and one rounding's variance."""
    import torch

    steps = 2 + (case.softcap is not None) + (plane.bias is not None)  # the product, its scale, the cap, the bias
    of_rounding = torch.where(met.weights == 0, 0.0, met.scores).square() / 3
    products = plane.q.square() @ plane.k.square().mT * case.scale**2
    of_sums = _roundings(case, case.head_dim) / 3 * (met.raw.square() + products)
    if met.slope is not None:  # the cap scales errors by its slope
        of_sums *= met.slope.square()
    return of_sums + steps * of_rounding, steps, of_rounding


def _in_roundoffs(case: Case, squares: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the variances of rows whose factors are stored, given the sum of the squared products of each row."""
    return {name: coarser(case) ** 2 / 3 * of_rows for name, of_rows in squares.items()}


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return the products of matrices and vectors, which may have leading axes."""
    return (matrices @ vectors[..., None]).squeeze(-1)


def _alike(case: Case, plane: Plane, met: Intermediates) -> Tensor:
    """Return how many keys of each row (rows,) have equal weights: equal keys, or scores at which a cap saturates."""
    visible = (met.weights > 0).double()
    alike = _times(visible, _repeated(plane.k))
    return alike if met.slope is None else alike.maximum((visible * (met.slope < _accumulator_eps(case))).sum(-1))


def _repeated(keys: Tensor) -> Tensor:
    """Return 1 for each of a head's keys (keys, head_dim) that occurs more than once, else 0; compares hashes."""
    import torch

    rows = keys.contiguous().view(torch.int64)
    odd = torch.arange(rows.shape[-1], dtype=torch.int64) * 0x5851F42D4C957F2D + 1  # integer products and sums wrap
    hashes, places = ((rows ^ (rows >> 32)) * odd).sum(-1).sort(-1)
    as_before = hashes.diff(dim=-1) == 0
    repeated = torch.zeros_like(hashes, dtype=torch.float64)
    repeated[..., 1:][as_before] = 1
    repeated[..., :-1][as_before] = 1
    return torch.empty_like(repeated).scatter_(-1, places, repeated)


def _cancelled_sums(squares: Tensor, result: Tensor, length: int) -> Tensor:
    """Return the variance (rows,) of a sum's roundings, as far as its products are larger than their sum.

    A budget covers roundings relative to the result. With few columns, the products may cancel almost completely.

    Args:
        squares: sum of the squared products of a row, over all its columns: (rows,).
        result: (rows, columns).
        length: number of products that are summed for one element.
    """
    return length * (squares - result.square().sum(-1)).clamp_min(0) / 3


def _of_exponentials(case: Case) -> float:
    """Return the variance of an exponential's relative error, in squared unit roundoffs of the accumulator.

    For 16-bit weights a polynomial of low degree is accurate enough: the error of FlashAttention-4's (arXiv:2603.05451)
    is up to 8.8e-5, so 2^-13 is allowed. Otherwise one unit roundoff is allowed.
    """
    return (1.0 if case.output_dtype in ("float32", "float64") else 2.0**11) ** 2 / 3


def coarser(case: Case) -> float:
    """Return the unit roundoff of the output dtype over that of the accumulator."""
    import torch

    return float(torch.finfo(getattr(torch, case.output_dtype)).eps / _accumulator_eps(case))


def _accumulator_eps(case: Case) -> float:
    return 2.0**-52 if case.dtype == "float64" else 2.0**-23


def _roundings(case: Case, dim: int) -> int:
    """Return the number of roundings of a sum over the columns of a head.

    With projections, both factors of its products are sums themselves. The error of a projected vector is distributed
    over its columns like the vector, so each of its roundings moves the product at most as much as rounding every term:
    once for the mean and once for the random part, for each factor.
    """
    return dim + (4 * case.embed_dim if case.operator == "multi_head_attention" else 0)
