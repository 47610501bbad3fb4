"""Fresh values for each timed sample, at hardly any cost: the sign of V flips, head by head.

Attention is linear in V, so the answer follows exactly: where a head's values change sign, so do its ``out``, ``dq``
and ``dk``; ``lse`` and ``dv`` stay. A sample's inputs are therefore never those of the sample before, and the oracle
need not compute the answer anew. An implementation that returns what it returned before is wrong by twice its output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_BITS = 8  # the state repeats after 256 flips; a window holds at most 200 samples


def value_signs(case: Case, flip_index: int) -> NDArray[np.int8]:
    """Sign of V's values at a flip index, shape ``(batch, heads_kv)``: 1 everywhere at index 0.

    Head n of a batch follows bit n of the index (modulo 8), so the first head changes each time. Heads
    whose values are one and the same memory, or which a projection mixes, change together.
    """
    together = case.operator == "multi_head_attention" or case.strides == "expanded_kv"
    heads = np.zeros(case.heads_kv, np.int64) if together else np.arange(case.heads_kv)
    groups = 1 if together else case.heads_kv
    bits = (np.arange(case.batch)[:, None] * groups + heads[None, :]) % _BITS
    return (1 - 2 * (flip_index >> bits & 1)).astype(np.int8)
