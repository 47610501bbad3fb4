"""Dropout of weights: after the softmax each is dropped with probability p, and the others are divided by 1 - p.

This is the inverted form of Srivastava et al., "Dropout" (JMLR 2014), as in Vaswani et al. 2017, section 5.4, and in
every framework. An implementation draws with its own generator from the given seed, and reports the weights it kept.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs

if TYPE_CHECKING:
    from attnbench.cases.case import Case


FALSE_ALARMS = 1e-9
"""Probability that a mask drawn by a sound generator is rejected."""


def dropout_seed(case: Case, repetition: int) -> int:
    """Return the seed of a call, below 2^63. It depends on the case's seed and the repetition alone."""
    digest = hashlib.sha256(f"{case.seed}/{repetition}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def equal_by_chance(case: Case, pairs: int) -> float:
    """Return the probability that two draws for ``pairs`` query-key pairs keep the same weights.

    Hidden pairs are discounted by their share in the whole mask.
    """
    assert case.dropout is not None
    whole = case.batch * case.seqlen_q * case.seqlen_kv
    alike = case.dropout**2 + (1 - case.dropout) ** 2
    return math.pow(alike, pairs * visible_pairs(case) / max(1, whole))
