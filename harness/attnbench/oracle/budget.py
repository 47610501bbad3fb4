"""How wrong a sound implementation may be: derived from the dtype and the inputs, never tuned by hand.

Errors are measured against the float64 answer, in two scale-free ways: the RMS of the difference over the RMS of the
answer, and the largest error of a row over that row's norm. The budget of either is twice the error of the
low-precision reference on the same inputs (twice, because both differ from the truth and from each other), plus a
rounding term: one rounding of the result to its dtype, the growth of accumulated rounding errors with the square root
of the reduction length (Higham & Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput.
2019), and the rounding errors that are no fraction of the result: those of scores, which the exponential makes relative
ones of the weights and absolute ones of the LSE, and those of the terms that cancel in dQ and dK.

The low-precision reference rounds what it stores, and adds up exactly. The errors of sums depend on their order, which
is the processor's; the rounding term has room for any.
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
"""One in a million judged tensors may have larger rounding errors of scores than its budget allows for."""
_ACCUMULATED = 2.0
"""Roundings for each term of a sum: those of a product and of an addition."""
_BOTH_ROUNDED = math.sqrt(2)
"""In float64 the answer has rounding errors as large as those of what is judged."""


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
        """The larger of either measure, of the low-precision reference's two ways."""
        if other is None:
            return self
        return Error(max(self.rel, other.rel), max(self.max, other.max), self.worst)


def measure(got: Tensor, answer: Tensor, *, per_value: bool) -> Error:
    """Error of a tensor (..., rows, columns) in float64, over the places where both are finite.

    With ``per_value`` each value is a row of its own with an absolute scale of at least 1, as for an LSE.
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
    """Rounding errors of scores and of cancelling terms that a budget has room for, in unit roundoffs.

    The low-precision reference shows what it is to store a row in 16 bits, and a typical size beside it is enough. Its
    errors show nothing of the order of a sum, which is what counts in float32 and float64, and little of an LSE.

    ``deviations`` are standard deviations of rows' errors, see :func:`attnbench.oracle.answer.arithmetic.term_sizes`.
    """
    if name == "lse" or case.output_dtype in ("float32", "float64"):
        return likely_size(answer, deviations, per_value=name == "lse")
    return _typical_size(answer, deviations)


def _typical_size(answer: Tensor, deviations: Tensor) -> Error:
    """Rows' errors, each of which is as large as a single rounding may make it: the root of three deviations."""
    whole, scale = scales(answer)
    norms = math.sqrt(3) * deviations
    rows = norms / scale
    return Error(
        float(norms.square().sum().sqrt()) / whole, float(rows.max()), _unravel(int(rows.argmax()), rows.shape)
    )


def likely_size(answer: Tensor, deviations: Tensor, *, per_value: bool) -> Error:
    """A bound that rounding errors of rows hardly ever exceed, on the scales of the answer's errors.

    They are sums of independent errors, and where few keys compete in few rows there are so few of them that sound
    computations may be lucky. The squared norm of such a sum, of standard deviation s, exceeds
    ``s² (1 + 2 sqrt(x) + 2 x)`` with a probability of exp(-x) at most, one number exceeds ``s sqrt(2 x + 2 ln 2)``, and
    the squares of all rows together ``sum s² + 2 sqrt(x sum s⁴) + 2 x max s²`` (Hsu, Kakade and Zhang, "A tail
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
    # Halved: a budget takes twice the largest term of a row, whose size is typical there and not a bound.
    return Error(math.sqrt(float(total)) / whole, of_one * float(relative.max()) / 2, worst)


def size_of_storing(case: Case, answer: Tensor, sizes: Tensor) -> Error:
    """The least that the low-precision reference's errors count for: of few numbers they may be small by luck.

    Half of what errors hardly ever exceed, because a budget takes twice the reference's. Of many rows and columns the
    reference's are larger. For the bound see :func:`likely_size`; of s² along each of n directions, a squared norm
    exceeds ``n s² + 2 s² sqrt(n x) + 2 x s²`` with a probability of exp(-x) at most.

    Sizes (..., rows, 2) are those of :func:`attnbench.oracle.answer.heads.attend_heads`.
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
    """The scale of the rows whose own norm is smaller."""
    return float(scales(answer)[1].min())


def scales(answer: Tensor) -> tuple[float, Tensor]:
    """The norm of the answer, and for each row its norm or the RMS of all rows' norms, whichever is larger.

    Where the whole answer is zero, errors count as they are: the scale of a row is 1.
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
    """The unit roundoff of the dtype that a tensor is returned in."""
    import torch

    kept = torch.float32 if name == "lse" and case.dtype != "float64" else getattr(torch, case.output_dtype)
    return torch.finfo(kept).eps / 2


def summed_roundoff(case: Case) -> float:
    """The unit roundoff of the accumulator."""
    import torch

    return torch.finfo(torch.float64 if case.dtype == "float64" else torch.float32).eps / 2


def budget(case: Case, name: str, low_precision: Error, terms: Error | None) -> tuple[float, float]:
    """The budgets of ``rel`` and ``max`` of a tensor.

    ``terms`` are the size of rounding errors of scores and of terms that cancel, in unit roundoffs of the accumulator.
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
    """How many terms were summed for one element, those of the scores and of the softmax's sum included."""
    length = case.seqlen_kv + case.head_dim
    if name in ("dk", "dv"):
        length += case.seqlen_q * (case.heads_q // case.heads_kv)
    if name == "dbias":
        length += scores_in_bias(case)
    return length + (2 * case.embed_dim if case.operator == "multi_head_attention" else 0)
