"""Model of the time of a call that many ranks share, fitted to measured cells. Numbers in, numbers out.

**Compute** of a rank is ``a + b·rounds + c·bytes + d·FLOPs``, all for that rank: the cost of a call, of each step, of
the received bytes, and of the scores. **Communication** is ``alpha·rounds + beta·bytes`` (Hockney, "The communication
challenge for MPP", 1994). It is all **exposed** if nothing is computed meanwhile; otherwise exposed is what exceeds the
concurrent compute, but at least ``kappa·bytes``, the part of a transfer that keeps the processor itself busy.

Coefficients are non-negative and fitted to relative errors. Intervals are 95 % intervals of a parametric bootstrap:
each coefficient is refitted to the fitted values with new noise, and each prediction adds noise of its own; few cells
widen the noise, as Student's t does. Intervals cover the scatter of the cells, not the machine's behaviour beyond the
measured sizes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.errors import UsageError
from attnbench.scaling import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attnbench.registry.sends import Sends

    Array = NDArray[np.float64]

FEWEST_SIZES = 4
"""Number of different sizes that a fit of compute needs, in each group of cells."""
FEWEST_MESSAGES = 3
"""Number of different message sizes that a fit of alpha and beta needs, in the whole run."""
_DRAWS = 400
_WIDEST = 5.0
"""Bound on the logarithm of a noise factor; beyond e**5 an interval says nothing."""
_GRID = np.linspace(0.0, 1.0, 65)


class PredictError(UsageError):
    """There is too little data to fit, or the model cannot answer the question."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a call on a number of ranks."""

    ranks: int
    flops: float
    """FLOPs of all ranks together."""
    sends: tuple[Sends, ...]

    @property
    def rounds(self) -> int:
        """Number of times that a rank waits for others."""
        return sum(one.rounds for one in self.sends)

    def bytes_on(self, *, shared: bool) -> float:
        """Return the bytes over a rank's own link, or (``shared``) over the one link of all ranks."""
        return sum(one.bytes for one in self.sends) / (1 if shared else self.ranks)

    @property
    def terms(self) -> Array:
        """The terms of a rank's compute: 1, rounds, bytes and FLOPs."""
        return np.array([1.0, self.rounds, self.bytes_on(shared=False), self.flops / self.ranks])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A cell of a run; times in nanoseconds, for the slowest rank."""

    work: Work
    compute_ns: float
    communication_ns: float | None
    """``None`` if nothing is sent."""
    exposed_ns: float


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted sum of terms. The first row of each array is the best fit, the others are bootstrap draws."""

    coefficients: Array
    """Shape (1 + draws, terms)."""
    noise: Array
    """Relative noise, shape (1 + draws,); 0 in the first row."""

    def at(self, terms: Array, rng: np.random.Generator) -> Array:
        """Return the sum with its noise, shape (1 + draws,)."""
        return self.coefficients @ terms * stretches(self.noise, rng)


def fit_terms(rows: Array, values: Array, rng: np.random.Generator) -> Fit:
    """Fit non-negative coefficients by least squares of relative errors (Lawson and Hanson, 1974, chapter 23).

    Args:
        rows: shape (cells, terms); more cells than terms that matter.
        values: positive, shape (cells,).
        rng: for the draws.
    """
    from scipy.optimize import nnls

    scale = np.where(rows.max(0) > 0, rows.max(0), 1.0)
    relative = rows / scale / values[:, None]
    best: Array = nnls(relative, np.ones(len(values)))[0]
    freedom = max(1, len(values) - int((best > 0).sum()))
    fitted = relative @ best
    spread = np.sqrt(np.square(fitted - 1).sum() / rng.chisquare(freedom, _DRAWS))
    drawn = [nnls(relative, fitted * stretches(np.full(len(values), noise), rng))[0] for noise in spread]
    return Fit(np.array([best, *drawn]) / scale, np.concatenate([[0.0], spread]))


def stretches(noise: Array, rng: np.random.Generator) -> Array:
    """Return lognormal factors around 1, with the noise as the standard deviation of the logarithm."""
    return np.exp(np.clip(noise * rng.standard_normal(len(noise)), -_WIDEST, _WIDEST))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The links, and how well compute hides them. Each array begins with the best fit, as in :class:`Fit`."""

    latency_ns: Array
    """Alpha: nanoseconds per round."""
    ns_per_byte: Array
    """Beta: nanoseconds per byte."""
    busy_ns_per_byte: Array
    """Kappa: nanoseconds per byte that no compute hides."""
    noise: Array
    """Relative noise of communication."""
    exposed_noise: float
    """Noise of exposed communication, as a share of the call."""
    shared: bool
    """Whether all ranks send through one link."""
    hiding_seen: bool
    """Whether any measured cell determines kappa; otherwise it is 0."""

    def over(self, *, latency_ns: float | None, bytes_per_ns: float | None) -> Network:
        """Return the network with another link; ``None`` keeps the fitted value."""
        alpha = self.latency_ns if latency_ns is None else np.full_like(self.latency_ns, latency_ns)
        beta = self.ns_per_byte if bytes_per_ns is None else np.full_like(self.ns_per_byte, 1 / bytes_per_ns)
        return dataclasses.replace(self, latency_ns=alpha, ns_per_byte=beta)

    def communication(self, work: Work) -> Array:
        """Return ``alpha·rounds + beta·bytes``, shape (1 + draws,)."""
        return self.latency_ns * work.rounds + self.ns_per_byte * work.bytes_on(shared=self.shared)

    def exposed(self, work: Work, compute: Array | float, busy: Array, stretch: Array | float = 1.0) -> Array:
        """Return the communication that compute does not hide.

        Args:
            work: the call.
            compute: time of a rank's compute.
            busy: kappa; alpha and beta are broadcast against its first axis.
            stretch: factor on the time of messages beyond alpha and beta.
        """
        shape = (-1,) + (1,) * (busy.ndim - 1)
        alpha, beta = self.latency_ns.reshape(shape), self.ns_per_byte.reshape(shape)
        total = np.zeros(np.broadcast_shapes(alpha.shape, busy.shape))
        for one in work.sends:
            part = Work(ranks=work.ranks, flops=0, sends=(one,)).bytes_on(shared=self.shared)
            takes = (alpha * one.rounds + beta * part) * stretch
            hidden = np.maximum(np.minimum(takes, busy * part), takes - one.behind * compute)
            total = total + (hidden if one.behind else takes)
        return total


def fit_network(cells: Sequence[Measured], *, shared: bool, rng: np.random.Generator) -> Network:
    """Fit alpha, beta and kappa to all cells that send something.

    Raises:
        PredictError: if they are too few or too similar.
    """
    sending = [cell for cell in cells if cell.communication_ns]
    rows = np.array([[cell.work.rounds, cell.work.bytes_on(shared=shared)] for cell in sending]).reshape(-1, 2)
    if len(np.unique(rows, axis=0)) < FEWEST_MESSAGES:
        sizes = len(np.unique(rows, axis=0))
        raise PredictError(f"{sizes} sizes of messages are too few for a link: it takes {FEWEST_MESSAGES}, of lengths")
    link = fit_terms(rows, np.array([cell.communication_ns for cell in sending]), rng)
    none = np.zeros(1 + _DRAWS)
    first = Network(
        latency_ns=link.coefficients[:, 0], ns_per_byte=link.coefficients[:, 1], busy_ns_per_byte=none,
        noise=link.noise, exposed_noise=0.0, shared=shared, hiding_seen=False,
    )  # fmt: skip
    return _with_hiding(first, sending, rng)


def _with_hiding(network: Network, cells: Sequence[Measured], rng: np.random.Generator) -> Network:
    """Fit kappa by least squares of the exposed share of calls; the smallest of equally good values."""
    busy = network.ns_per_byte[:, None] * _GRID
    errors = np.stack(
        [
            (network.exposed(cell.work, cell.compute_ns, busy) - cell.exposed_ns) / (cell.compute_ns + cell.exposed_ns)
            for cell in cells
        ],
        axis=-1,
    )  # (1 + draws, grid, cells)
    weights = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), 1 + _DRAWS).astype(np.float64)
    weights[0] = 1
    squares = np.einsum("dgc,dc->dg", np.square(errors), weights)
    chosen = (squares <= squares.min(1, keepdims=True) * (1 + 1e-9)).argmax(1)
    return dataclasses.replace(
        network,
        busy_ns_per_byte=busy[np.arange(len(chosen)), chosen],
        exposed_noise=float(np.sqrt(squares[0].min() / len(cells))),
        hiding_seen=bool(squares[0].max() > squares[0].min() * (1 + 1e-6)),
    )


def fit_compute(cells: Sequence[Measured], rng: np.random.Generator) -> Fit:
    """Fit the compute of a rank to the cells of one implementation.

    Raises:
        PredictError: if they are too few.
    """
    rows = np.array([cell.work.terms for cell in cells])
    sizes = len(np.unique(rows, axis=0))
    if sizes < FEWEST_SIZES:
        raise PredictError(
            f"{sizes} sizes of compute are too few for a law: it takes {FEWEST_SIZES}, of lengths and ranks"
        )
    return fit_terms(rows, np.array([cell.compute_ns for cell in cells]), rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted parts of a call, in nanoseconds."""

    compute_ns: Interval
    communication_ns: Interval
    exposed_ns: Interval
    time_ns: Interval
    efficiency: float
    """Parallel efficiency: time on one rank over (number of ranks × time on all of them)."""


def predict(law: Fit, network: Network, work: Work, rng: np.random.Generator) -> Prediction:
    """Predict compute, communication, exposed communication and time of a call."""
    compute = law.at(work.terms, rng)
    stretch = stretches(network.noise, rng)
    exposed = network.exposed(work, compute, network.busy_ns_per_byte, stretch)
    if work.sends:
        scatter = np.concatenate([[0.0], rng.standard_normal(len(exposed) - 1)])
        exposed = np.maximum(0.0, exposed + network.exposed_noise * scatter * (compute + exposed))
    time = compute + exposed
    alone = Work(ranks=1, flops=work.flops, sends=())
    return Prediction(
        compute_ns=interval_of(compute),
        communication_ns=interval_of(network.communication(work) * stretch),
        exposed_ns=interval_of(exposed),
        time_ns=interval_of(time),
        efficiency=float(law.coefficients[0] @ alone.terms / work.ranks / time[0]),
    )


def interval_of(values: Array) -> Interval:
    """Return the best fit with the 95 % interval of the draws."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(value=float(values[0]), low=float(low), high=float(high))
