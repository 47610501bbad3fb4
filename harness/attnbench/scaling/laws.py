"""Laws of growth, and their least-squares fits on logarithmic residuals, many at once.

A law is a sum of positive terms, so its logarithm is a log-sum-exp. Coefficients are fitted as logarithms, which keeps
them positive, and lengths are relative to the largest one, which decorrelates them. All fits of a batch (resampled
processes, candidates for cliffs, starting points) take their Levenberg-Marquardt steps together.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_STEPS = 40
_STUCK = 1e5
_TINY = 1e-5
"""A curve has converged when a step reduces its squared residuals by less than this share."""
_FAINTEST = 10.0
"""Terms are bounded below by e**-10 of the smallest value, which is too little to measure."""
_STEEPEST = 6.0
_STARTS = (0.9, 0.3, 1e-2)
"""Starting values of the first term, as shares of the smallest value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """A family of curves ``a + sum of terms``; each term is a positive coefficient times a function of the length."""

    name: str
    formula: str
    terms: tuple[Callable[[Array], Array], ...]
    """Logarithms of the terms' functions of the length, without the constant."""
    has_exponent: bool = False
    """Whether the law has a single term with a free exponent."""

    @property
    def parameters(self) -> int:
        """Number of free parameters: floor, coefficients, exponent."""
        return 1 + len(self.terms) + self.has_exponent


POWER = Law(name="power", formula="a + b·n^k", terms=(np.log,), has_exponent=True)
QUADRATIC = Law(
    name="quadratic", formula="a + b·n + c·n²", terms=(np.log, lambda n: 2 * np.log(n))
)  # fmt: skip
N_LOG_N = Law(name="n_log_n", formula="a + b·n·log n", terms=(lambda n: np.log(n) + np.log(np.log(n)),))
LAWS = (POWER, QUADRATIC, N_LOG_N)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fits:
    """Fits of one law to a batch of curves over the same lengths."""

    law: Law
    lengths: Array  # (sizes,)
    parameters: Array  # (batch, law.parameters + cliffs): logarithms of floor and coefficients, exponent, steps
    residuals: Array  # (batch, sizes), of logarithms

    @property
    def errors(self) -> Array:
        """Sum of squared residuals, shape (batch,)."""
        squares: Array = np.square(self.residuals).sum(-1)
        return squares

    @property
    def floor(self) -> Array:
        """Logarithm of the constant, shape (batch,)."""
        return self.parameters[:, 0]

    @property
    def exponent(self) -> Array:
        """The free exponent, shape (batch,)."""
        assert self.law.has_exponent
        return self.parameters[:, 2]

    @property
    def crossover(self) -> Array:
        """Logarithm of the length at which the growing term of a power law equals the constant, shape (batch,)."""
        assert self.law.has_exponent
        meet: Array = (self.parameters[:, 0] - self.parameters[:, 1]) / self.parameters[:, 2]
        return meet + math.log(self.lengths[-1])

    def steps(self) -> Array:
        """Return the heights of the cliffs as logarithms, shape (batch, cliffs)."""
        return self.parameters[:, self.law.parameters :]

    def jacobian(self) -> Array:
        """Return derivatives of the first fit's logarithm by its parameters, without cliffs: (sizes, parameters)."""
        slopes: Array = _model(self.law, self.lengths, self.parameters[:1, : self.law.parameters])[1][0]
        return slopes


def fit_law(law: Law, lengths: Array, logs: Array, patterns: Array | None = None, *, near: Array | None = None) -> Fits:
    """Fit a law to each curve of a batch.

    Args:
        law: the family.
        lengths: rising, shape (sizes,).
        logs: logarithms of the values, shape (batch, sizes).
        patterns: added to the law's logarithm with fitted factors; shape (sizes, cliffs) for all curves, or
            (batch, sizes, cliffs).
        near: parameters to start from, shape (law's parameters + cliffs,); by default several distant points.
    """
    batch, sizes = logs.shape
    cliffs = np.zeros((sizes, 0)) if patterns is None else patterns
    cliffs = np.broadcast_to(cliffs, (batch, *cliffs.shape[-2:]))
    if near is None:
        starts = np.concatenate([_start(law, lengths, logs, share) for share in _STARTS])
        starts = np.concatenate([starts, np.zeros((len(starts), cliffs.shape[-1]))], axis=1)
    else:
        starts = np.broadcast_to(near, (batch, len(near)))
    many = len(starts) // batch
    found, residuals = _descend(law, lengths, np.tile(logs, (many, 1)), np.tile(cliffs, (many, 1, 1)), starts)
    errors = np.square(residuals).sum(-1).reshape(many, batch)
    best = errors.argmin(0) * batch + np.arange(batch)
    return Fits(law=law, lengths=lengths, parameters=found[best], residuals=residuals[best])


def aicc(error: float, sizes: int, parameters: int) -> float:
    """Return the corrected Akaike information criterion of a least-squares fit; smaller is better supported.

    Hurvich and Tsai, "Regression and time series model selection in small samples" (1989). The residuals' variance
    counts as a parameter. The correction is left out if there are too few sizes for it.
    """
    count = parameters + 1
    plain = sizes * math.log(max(error, 1e-18) / sizes) + 2 * count
    left = sizes - count - 1
    return plain + 2 * count * (count + 1) / left if left > 0 else plain


def _start(law: Law, lengths: Array, logs: Array, share: float) -> Array:
    """Return starting points: the floor is ``share`` of the smallest value, the terms split the largest one equally."""
    batch = len(logs)
    floor = logs.min(-1) + math.log(share)
    half = len(lengths) // 2
    slope = (logs[:, -1] - logs[:, half]) / math.log(lengths[-1] / lengths[half])
    columns = [floor, *(logs[:, -1] - math.log(len(law.terms)) for _ in law.terms)]
    if law.has_exponent:
        columns.append(np.clip(slope, 0.2, _STEEPEST - 1))
    return np.stack([np.broadcast_to(column, batch) for column in columns], axis=1)


def _model(law: Law, lengths: Array, parameters: Array) -> tuple[Array, Array]:
    """Return the law's logarithm and its derivatives: shapes (batch, sizes) and (batch, sizes, parameters)."""
    relative = [term(lengths) - term(lengths[-1:]) for term in law.terms]
    floor = np.broadcast_to(parameters[:, :1], (len(parameters), len(lengths)))
    if law.has_exponent:
        grown = [parameters[:, 1:2] + parameters[:, 2:3] * relative[0]]
    else:
        grown = [parameters[:, i : i + 1] + term for i, term in enumerate(relative, start=1)]
    terms = np.stack([floor, *grown], axis=-1)
    top = terms.max(-1, keepdims=True)
    scaled = np.exp(terms - top)
    total = scaled.sum(-1, keepdims=True)
    shares = scaled / total
    logs = (top + np.log(total))[..., 0]
    if law.has_exponent:
        shares = np.concatenate([shares, shares[..., 1:2] * relative[0][:, None]], axis=-1)
    return logs, shares


def _descend(law: Law, lengths: Array, logs: Array, cliffs: Array, start: Array) -> tuple[Array, Array]:
    """Run Levenberg-Marquardt with a separate damping per curve; return the parameters and residuals of each."""
    low, high = _bounds(law, logs, cliffs.shape[-1])
    parameters = np.clip(start, low, high)
    own = law.parameters

    def residuals_at(points: Array) -> tuple[Array, Array]:
        fitted, slopes = _model(law, lengths, points[:, :own])
        steps = np.einsum("bsc,bc->bs", cliffs, points[:, own:])
        return logs - fitted - steps, np.concatenate([slopes, cliffs], axis=-1)

    residuals, slopes = residuals_at(parameters)
    errors = np.square(residuals).sum(-1)
    damping = np.full(len(parameters), 1e-2)
    identity = np.eye(parameters.shape[1])
    done = np.zeros(len(parameters), bool)
    for _ in range(_STEPS):
        normal = np.einsum("bsp,bsq->bpq", slopes, slopes)
        scale = np.maximum(np.einsum("bpp->bp", normal), 1e-9)
        damped = normal + identity * (damping[:, None] * scale)[:, :, None]
        step = np.linalg.solve(damped, np.einsum("bsp,bs->bp", slopes, residuals)[..., None])[..., 0]
        tried = np.clip(parameters + step, low, high)
        new_residuals, new_slopes = residuals_at(tried)
        new_errors = np.square(new_residuals).sum(-1)
        better = new_errors <= errors
        gain = np.where(better, errors - new_errors, 0.0)
        parameters = np.where(better[:, None], tried, parameters)
        residuals = np.where(better[:, None], new_residuals, residuals)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        errors = np.where(better, new_errors, errors)
        damping = np.clip(np.where(better, damping / 10, damping * 6), 1e-10, 2 * _STUCK)
        done |= (better & (gain <= _TINY * errors + 1e-16)) | (damping > _STUCK)
        if done.all():
            break
    return parameters, residuals


def _bounds(law: Law, logs: Array, cliffs: int) -> tuple[Array, Array]:
    """Bound the parameters: terms are neither too faint nor far above the largest value, the exponent is positive."""
    low, high = logs.min(-1, keepdims=True), logs.max(-1, keepdims=True)
    ones = np.ones((1, 1 + len(law.terms)))
    lows, highs = (low - _FAINTEST) * ones, np.concatenate([low + 0.2, (high + 2.0) * ones[:, 1:]], axis=1)
    if law.has_exponent:
        column = np.ones_like(low)
        lows, highs = np.concatenate([lows, 0.01 * column], 1), np.concatenate([highs, _STEEPEST * column], 1)
    wide = np.full((len(logs), cliffs), 10.0)
    return np.concatenate([lows, -wide], axis=1), np.concatenate([highs, wide], axis=1)
