"""Error budgets of a sound implementation, derived from the dtype and the inputs, never tuned by hand.

Errors are measured against the float64 answer, in two scale-free ways: the RMS of the difference over the RMS of the
answer, and the largest error of a row over that row's norm. The budget of either is twice the error of the
low-precision reference on the same inputs (twice, because both differ from the truth and from each other), plus a
rounding term: one rounding of the result to its dtype, the growth of accumulated rounding errors with the square root
of the reduction length (Higham & Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput.
2019), and the rounding errors that are not proportional to the result: those of scores, which the exponential turns
into relative errors of the weights and absolute errors of the LSE, and those of terms that cancel in dQ and dK.

The low-precision reference rounds what it stores, but sums exactly. The errors of sums depend on their order, which
depends on the processor; the rounding term covers any order.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.bias import scores_in_bias

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case

_REFERENCE_FACTOR = 2.0
_UNLIKELY = math.log(1e6)
"""Minus the log probability that a tensor's rounding errors of scores exceed its budget: one in a million."""
_ACCUMULATED = 2.0
"""Roundings per term of a sum: one for the product, one for the addition."""
_BOTH_ROUNDED = math.sqrt(2)
"""In float64, the answer has rounding errors as large as those of the judged tensor."""


@dataclasses.dataclass(frozen=True)
class Error:
    """How far a tensor is from the answer."""

    rel: float
    """RMS of the difference over the RMS of the answer."""
    max: float
    """Largest norm of a row's difference over the row's norm (or the RMS norm of all rows, where that is larger)."""
    worst: tuple[int, ...]
    """Index of the worst element within the judged tensor: the worst row's largest difference."""

    def or_worse(self, other: Error | None) -> Error:
        """Return an error with the larger of the two values of each measure."""
        if other is None:
            return self
        return Error(max(self.rel, other.rel), max(self.max, other.max), self.worst)


def measure(got: Tensor, answer: Tensor, *, per_value: bool) -> Error:
    """Return the error of a float64 tensor (..., rows, columns) over the elements where both are finite.

    With ``per_value``, as for an LSE, each value is a row of its own, with a scale of at least 1.
    """
    import torch

    finite = torch.isfinite(answer) & torch.isfinite(
        got
    )  # the low-precision reference may overflow where the answer does not
    difference = torch.where(finite, got - answer, 0.0)
    answer = torch.where(finite, answer, 0.0)
    if per_value:
        scale = answer.abs().clamp_min(1.0)
        relative = difference.abs() / scale
        rel = float((relative.square().mean()).sqrt())
        worst = int(relative.argmax())
        return Error(rel, float(relative.max()), _unravel(worst, answer.shape))
    whole, scale = scales(answer)
    norms = difference.square().sum(-1).sqrt()
    rows = norms / scale
    worst_row = _unravel(int(rows.argmax()), rows.shape)
    rel = float(norms.square().sum().sqrt()) / whole
    return Error(rel, float(rows.max()), (*worst_row, int(difference[worst_row].abs().argmax())))


def size_of_terms(case: Case, name: str, answer: Tensor, deviations: Tensor) -> Error:
    """Return the size of rounding errors of scores and cancelling terms that a budget allows, in unit roundoffs.

    In 16 bits, the low-precision reference includes the errors of storing rows, so a typical size of the rest is
    enough. Its errors do not depend on the order of sums, which dominates in float32 and float64, and say little about
    an LSE; there a bound is used.

    ``deviations`` are standard deviations of rows' errors, see :func:`attnbench.oracle.answer.arithmetic.term_sizes`.
    """
    if name == "lse" or case.output_dtype in ("float32", "float64"):
        return likely_size(answer, deviations, per_value=name == "lse")
    return _typical_size(answer, deviations)


def _typical_size(answer: Tensor, deviations: Tensor) -> Error:
    """Return the size of errors of sqrt(3) deviations in each row: the largest error of a single rounding."""
    whole, scale = scales(answer)
    norms = math.sqrt(3) * deviations
    rows = norms / scale
    return Error(
        float(norms.square().sum().sqrt()) / whole, float(rows.max()), _unravel(int(rows.argmax()), rows.shape)
    )


def likely_size(answer: Tensor, deviations: Tensor, *, per_value: bool) -> Error:
    """Return a bound on the rows' rounding errors, which they exceed with a probability of about one in a million.

    The errors of rows are sums of independent errors. Where few keys compete in few rows, there are so few of them that
    the reference's may be small by luck. With a probability of at most exp(-x), the squared norm of such a sum,
    of standard deviation s, exceeds ``s² (1 + 2 sqrt(x) + 2 x)``, a single number exceeds ``s sqrt(2 x + 2 ln 2)``, and
    the squares of all rows together exceed ``sum s² + 2 sqrt(x sum s⁴) + 2 x max s²`` (Hsu, Kakade and Zhang, "A tail
    inequality for quadratic forms of subgaussian random vectors", Electron. Commun. Probab. 17, 2012).

    Args:
        answer: the tensor (..., rows, columns), or an LSE of any shape; infinite where a row sees no key.
        deviations: standard deviations of rows' errors, shape (..., rows).
        per_value: as in :func:`measure`.
    """
    import torch

    if per_value:
        relative = deviations / torch.where(torch.isfinite(answer), answer, 0.0).abs().clamp_min(1.0)
        squares = relative.square()
        whole = math.sqrt(squares.numel())
        of_one = math.sqrt(2 * (_UNLIKELY + math.log(2 * squares.numel())))
    else:
        whole, scale = scales(answer)
        relative, squares = deviations / scale, deviations.square()
        x = _UNLIKELY + math.log(squares.numel())
        of_one = math.sqrt(1 + 2 * math.sqrt(x) + 2 * x)
    total = squares.sum() + 2 * (_UNLIKELY * squares.square().sum()).sqrt() + 2 * _UNLIKELY * squares.max()
    worst = _unravel(int(relative.argmax()), relative.shape)
    # Halved: a budget doubles the largest error of a row, as elsewhere that is a typical size and not a bound.
    return Error(math.sqrt(float(total)) / whole, of_one * float(relative.max()) / 2, worst)


def size_of_storing(case: Case, answer: Tensor, sizes: Tensor) -> Error:
    """Return a lower limit of the low-precision reference's errors, which for few numbers may be small by luck.

    It is half of a bound like that of :func:`likely_size`, because a budget doubles it. With many rows and columns the
    reference's errors are larger than the limit. With a variance of s² along each of n directions, a squared norm
    exceeds ``n s² + 2 s² sqrt(n x) + 2 x s²`` with a probability of at most exp(-x).

    ``sizes`` (..., rows, 2) are the ``stored`` terms of :func:`attnbench.oracle.answer.heads.attend_heads`.
    """
    whole, scale = scales(answer)
    variance, along_one = sizes.unbind(-1)
    x = _UNLIKELY + math.log(variance.numel())
    rows = (variance + 2 * (x * variance * along_one).sqrt() + 2 * x * along_one).sqrt() / scale
    total = variance.sum() + 2 * (_UNLIKELY * (variance * along_one).sum()).sqrt() + 2 * _UNLIKELY * along_one.max()
    once = summed_roundoff(case) / 2
    worst = _unravel(int(rows.argmax()), rows.shape)
    return Error(once * math.sqrt(float(total)) / whole, once * float(rows.max()), worst)


def smallest_scale(answer: Tensor) -> float:
    """Return the smallest scale of a row."""
    return float(scales(answer)[1].min())


def scales(answer: Tensor) -> tuple[float, Tensor]:
    """Return the norm of the answer, and for each row its norm or the RMS of all rows' norms, whichever is larger.

    If the whole answer is zero, the scale of a row is 1, so that errors are absolute.
    """
    import torch

    norms = answer.square().sum(-1).sqrt()
    typical = norms.square().mean().sqrt()
    if float(typical) == 0:
        return math.sqrt(norms.numel()), torch.ones_like(norms)
    return float(norms.square().sum().sqrt()), torch.maximum(norms, typical)


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(index, shape))


def roundoff(case: Case, name: str) -> float:
    """Return the unit roundoff of the dtype in which a tensor is returned."""
    import torch

    kept = torch.float32 if name == "lse" and case.dtype != "float64" else getattr(torch, case.output_dtype)
    return torch.finfo(kept).eps / 2


def summed_roundoff(case: Case) -> float:
    """Return the unit roundoff of the accumulator."""
    import torch

    return torch.finfo(torch.float64 if case.dtype == "float64" else torch.float32).eps / 2


def budget(case: Case, name: str, low_precision: Error, terms: Error | None) -> tuple[float, float]:
    """Return the budgets of ``rel`` and ``max`` of a tensor.

    ``terms`` is the size of rounding errors of scores and of terms that cancel, in unit roundoffs of the accumulator.
    """
    once = summed_roundoff(case)
    rounding = roundoff(case, name) + _ACCUMULATED * once * math.sqrt(_reduction_length(case, name))
    terms_rel, terms_max = (0.0, 0.0) if terms is None else (once * terms.rel, once * terms.max)
    factor = _BOTH_ROUNDED if case.dtype == "float64" else 1.0
    return (
        _REFERENCE_FACTOR * low_precision.rel + factor * (rounding + terms_rel),
        _REFERENCE_FACTOR * low_precision.max + factor * 2 * (rounding + terms_max),
    )


def _reduction_length(case: Case, name: str) -> int:
    """Return the number of terms that are summed for one element, including those of scores and the softmax's sum."""
    length = case.seqlen_kv + case.head_dim
    if name in ("dk", "dv"):
        length += case.seqlen_q * (case.heads_q // case.heads_kv)
    if name == "dbias":
        length += scores_in_bias(case)
    return length + (2 * case.embed_dim if case.operator == "multi_head_attention" else 0)
