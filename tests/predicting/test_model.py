"""The model, fitted to cells with known alpha, beta, kappa and compute law."""

from __future__ import annotations

import numpy as np
import pytest

from attnbench import Sends
from attnbench.predicting.model import (
    Fit,
    Measured,
    Network,
    PredictError,
    Prediction,
    Work,
    fit_compute,
    fit_network,
    predict,
)

ALPHA, BETA, KAPPA = 30_000.0, 0.8, 0.2
LAW = np.array([50_000.0, 20_000.0, 0.3, 0.02])
LENGTHS = (512, 1024, 2048, 4096)


def ring(length: int, ranks: int) -> Work:
    """Return the work of a ring, whose messages are hidden by compute and do not depend on the number of ranks."""
    hidden = Sends(bytes=(ranks - 1) * 1024 * length, rounds=ranks - 1, behind=(ranks - 1) / ranks)
    return Work(ranks=ranks, flops=256.0 * length**2, sends=(hidden,) if ranks > 1 else ())


def exchange(length: int, ranks: int) -> Work:
    """Return the work of an all-to-all, which nothing hides."""
    return Work(ranks=ranks, flops=256.0 * length**2, sends=(Sends(bytes=(ranks - 1) * 512 * length, rounds=4),))


def true_ns(work: Work, kappa: float = KAPPA, beta: float = BETA) -> tuple[float, float, float]:
    """Return compute, communication and exposed communication, worked out by hand."""
    compute = float(LAW @ work.terms)
    if not work.sends:
        return compute, 0.0, 0.0
    (one,) = work.sends
    each = one.bytes / work.ranks
    takes = ALPHA * one.rounds + beta * each
    hidden = max(min(takes, kappa * each), takes - one.behind * compute)
    return compute, takes, hidden if one.behind else takes


def measured(works: list[Work], noise: float = 0.0, seed: int = 0, beta: float = BETA) -> list[Measured]:
    """Return cells of these calls with noisy times."""
    rng = np.random.default_rng(seed)
    cells = []
    for work in works:
        compute, takes, exposed = true_ns(work, beta=beta)
        factors = np.exp(noise * rng.standard_normal(3))
        cells.append(
            Measured(
                work=work,
                compute_ns=compute * factors[0],
                communication_ns=takes * factors[1] if work.sends else None,
                exposed_ns=exposed * factors[2],
            )
        )
    return cells


def fitted(cells: list[Measured], seed: int = 1) -> tuple[Fit, Network, np.random.Generator]:
    rng = np.random.default_rng(seed)
    network = fit_network(cells, shared=False, rng=rng)
    return fit_compute(cells, rng), network, rng


def assert_is(prediction: Prediction, work: Work, kappa: float = KAPPA, beta: float = BETA) -> None:
    compute, takes, exposed = true_ns(work, kappa, beta)
    found = (prediction.compute_ns.value, prediction.communication_ns.value, prediction.exposed_ns.value)
    assert found == pytest.approx((compute, takes, exposed), rel=1e-6)
    assert prediction.time_ns.value == pytest.approx(compute + exposed, rel=1e-6)


FEW = [ring(length, ranks) for length in LENGTHS for ranks in (1, 2, 4)]


def test_planted_coefficients_are_found_again() -> None:
    law, network, _ = fitted(measured(FEW))
    assert law.coefficients[0] == pytest.approx(LAW, rel=1e-6)
    assert (network.latency_ns[0], network.ns_per_byte[0]) == pytest.approx((ALPHA, BETA))
    assert network.busy_ns_per_byte[0] == pytest.approx(KAPPA, abs=BETA / 128)  # half a step of the grid
    assert network.hiding_seen


@pytest.mark.parametrize("ranks", [8, 1024])
def test_ranks_that_were_held_out_are_predicted(ranks: int) -> None:
    law, network, rng = fitted(measured(FEW))
    prediction = predict(law, network, ring(4096, ranks), rng)
    assert_is(prediction, ring(4096, ranks), kappa=float(network.busy_ns_per_byte[0]))
    alone = true_ns(ring(4096, 1))[0]
    assert prediction.efficiency == pytest.approx(alone / ranks / prediction.time_ns.value)


def test_another_link_takes_the_place_of_the_fitted_one() -> None:
    """At a tenth of the speed, hidden communication becomes exposed, except for the time of the compute."""
    law, network, rng = fitted(measured(FEW))
    slow = network.over(latency_ns=None, bytes_per_ns=0.1 / BETA)
    assert_is(predict(law, slow, ring(4096, 2), rng), ring(4096, 2), beta=10 * BETA)
    late = network.over(latency_ns=5e6, bytes_per_ns=None)
    assert predict(law, late, ring(4096, 4), rng).communication_ns.value == pytest.approx(
        3 * 5e6 + BETA * 3 * 1024 * 4096 / 4
    )


def test_what_nothing_hides_is_exposed() -> None:
    cells = measured([exchange(length, ranks) for length in LENGTHS for ranks in (2, 4)])
    law, network, rng = fitted(cells)
    assert not network.hiding_seen
    assert_is(predict(law, network, exchange(2048, 8), rng), exchange(2048, 8))


def test_ranks_that_share_a_link_share_its_bandwidth() -> None:
    rng = np.random.default_rng(0)
    own = fit_network(measured(FEW), shared=False, rng=rng).over(latency_ns=0.0, bytes_per_ns=1.0)
    shared = fit_network(measured(FEW), shared=True, rng=rng).over(latency_ns=0.0, bytes_per_ns=1.0)
    assert shared.communication(ring(512, 8))[0] == pytest.approx(8 * own.communication(ring(512, 8))[0])


def test_intervals_hold_the_truth_of_held_out_ranks_as_often_as_they_say() -> None:
    """About 57 of 60 runs with 5 % of noise and 12 cells each; fewer than 51 are less likely than 1 in 100."""
    truth = true_ns(ring(4096, 8))
    held = 0
    for seed in range(60):
        law, network, rng = fitted(measured(FEW, noise=0.05, seed=seed), seed)
        time = predict(law, network, ring(4096, 8), rng).time_ns
        held += time.low <= truth[0] + truth[2] <= time.high
        assert time.high / time.low < 2  # otherwise it would say nothing
    assert held >= 51


def test_too_few_cells_are_refused() -> None:
    rng = np.random.default_rng(0)
    twice = measured([ring(512, 2), ring(1024, 2)] * 3)
    with pytest.raises(PredictError, match="2 sizes of messages are too few for a link: it takes 3"):
        fit_network(twice, shared=False, rng=rng)
    with pytest.raises(PredictError, match="2 sizes of compute are too few for a law: it takes 4"):
        fit_compute(twice, rng)
