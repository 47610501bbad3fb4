"""Sign flips between timed samples, head by head: of V, and of Q and K together.

Attention is linear in V, so the answer is known exactly: if a head's V changes sign, so do its ``out``, ``dq``, ``dk``
and ``dbias``; ``lse`` and ``dv`` stay. Scores are products of Q and K: if both change sign, only ``dq`` and ``dk`` do.
The oracle need not compute the answer again. An implementation that returns an earlier result is wrong by twice its
output, and one that kept a transformed K has all scores wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_BITS = 8  # the signs repeat after 256 flips; a window holds at most 200 samples


def value_signs(case: Case, flip_index: int) -> NDArray[np.int8]:
    """Return the signs of V at a flip index, shape ``(batch, heads_kv)``: 1 everywhere at index 0.

    Head n of a batch follows bit n of the index (modulo 8), so the first head changes each time. Heads that share
    memory, or that a projection mixes, change together. The values of a latent cache are columns of its keys, whose
    signs then follow these.
    """
    return _signs(case, flip_index, first_bit=0)


def score_signs(case: Case, flip_index: int) -> NDArray[np.int8]:
    """Return the signs of K and of the queries of its group, shape ``(batch, heads_kv)``.

    Head n follows bit n + 1, unlike V, so that the signs of dQ and dK, products of both, change too. Projections
    have biases that do not change sign, so the signs behind them are all 1.
    """
    if case.operator == "multi_head_attention":
        return np.ones((case.batch, case.heads_kv), np.int8)
    return _signs(case, flip_index, first_bit=0 if case.kv_cache == "latent" else 1)


def _signs(case: Case, flip_index: int, *, first_bit: int) -> NDArray[np.int8]:
    if case.bias_grad:  # dbias sums over heads, which must all have one sign
        return np.full((case.batch, case.heads_kv), 1 - 2 * (flip_index >> first_bit & 1), np.int8)
    together = case.operator == "multi_head_attention" or case.strides == "expanded_kv"
    heads = np.zeros(case.heads_kv, np.int64) if together else np.arange(case.heads_kv)
    groups = 1 if together else case.heads_kv
    bits = (np.arange(case.batch)[:, None] * groups + heads[None, :] + first_bit) % _BITS
    return (1 - 2 * (flip_index >> bits & 1)).astype(np.int8)
