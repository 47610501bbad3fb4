"""Floors: the least time of a phase, from its operations and the measured rates of this machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs
from attnbench.metrics.roofline import peak_of
from attnbench.profiling.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.cases.case import Case


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least time of a phase, and a sentence on its computation."""

    ns: float
    sentence: str


def floors(case: Case, tflops: Mapping[str, float], exponentials_per_ns: float | None) -> dict[Phase, Floor]:
    """Return the floors of one call on a CPU; that of ``products`` is for profiles that do not separate its parts.

    Operations are counted over the visible pairs, like :func:`attnbench.cases.cost.flops` does.
    """
    pairs = case.heads_q * visible_pairs(case)
    rate = peak_of(case.dtype, tflops, "cpu")
    products = {
        Phase.QK: (pairs * case.head_dim, "Q K^T"),
        Phase.PV: (pairs * case.head_dim_v, "P V"),
        Phase.PRODUCTS: (pairs * (case.head_dim + case.head_dim_v), "both products"),
    }
    if case.mode == "backward":  # the scores again; everything else is a gradient
        products = {Phase.QK: products[Phase.QK]}
    if case.needs_gradients:
        products[Phase.GRADIENTS] = (2 * pairs * (case.head_dim + case.head_dim_v), "dP, dV, dQ and dK")
    found = {}
    for phase, (multiply_adds, name) in products.items():
        if rate:
            text = f"{name}: {2 * multiply_adds / 1e9:.3g} Gflop at {1e3 * rate:.4g} Gflop/s, this machine's peak"
            found[phase] = Floor(2 * multiply_adds / rate / 1e3, text)
    if exponentials_per_ns:
        exponentials = f"{pairs / 1e6:.3g} million exponentials at {exponentials_per_ns:.3g} a nanosecond"
        text = f"{exponentials}, as torch or NumPy makes them in the cache"
        found[Phase.EXP] = Floor(pairs / exponentials_per_ns, text)
    return found
