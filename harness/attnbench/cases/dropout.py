"""Dropout of weights: behind the softmax each is dropped with a probability p, and the others are divided by 1 - p.

Srivastava et al., "Dropout" (JMLR 2014), inverted, as in Vaswani et al. 2017, section 5.4, and in every framework. An
implementation draws with a generator of its own, from a seed that is the case's, and says which weights it kept.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs

if TYPE_CHECKING:
    from attnbench.cases.case import Case


FALSE_ALARMS = 1e-9
"""The probability that a mask from a sound generator is refused."""


def dropout_seed(case: Case, repetition: int) -> int:
    """The seed of a call, below 2^63. It depends on the inputs alone."""
    digest = hashlib.sha256(f"{case.seed}/{repetition}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def equal_by_chance(case: Case, pairs: int) -> float:
    """The probability that two draws for so many query-key pairs keep the same weights; hidden pairs do not count."""
    assert case.dropout is not None
    whole = case.batch * case.seqlen_q * case.seqlen_kv
    alike = case.dropout**2 + (1 - case.dropout) ** 2
    return math.pow(alike, pairs * visible_pairs(case) / max(1, whole))
