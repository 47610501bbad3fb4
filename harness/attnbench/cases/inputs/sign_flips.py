"""Signs that flip from one timed sample to the next, head by head: those of V, and those of Q and K together.

Attention is linear in V, so the answer follows exactly: where a head's values change sign, so do its ``out``, ``dq``,
``dk`` and ``dbias``; ``lse`` and ``dv`` stay. Scores are products of Q and K: where both change sign, only ``dq`` and
``dk`` do.
The oracle need not compute the answer anew. An implementation that returns what it returned before is wrong by twice
its output, and one that kept K in another form has all scores wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_BITS = 8  # the signs repeat after 256 flips; a window holds at most 200 samples


def value_signs(case: Case, flip_index: int) -> NDArray[np.int8]:
    """Sign of V's values at a flip index, shape ``(batch, heads_kv)``: 1 everywhere at index 0.

    Head n of a batch follows bit n of the index (modulo 8), so the first head changes each time. Heads
    whose values are one and the same memory, or which a projection mixes, change together. The values of a latent are
    columns of its keys, whose sign then follows this.
    """
    return _signs(case, flip_index, first_bit=0)


def score_signs(case: Case, flip_index: int) -> NDArray[np.int8]:
    """Sign of K and of the queries of its group, shape ``(batch, heads_kv)``.

    Head n follows bit n + 1, so that the sign of gradients, in which V's sign is too, changes. Projections have biases
    that do not change sign: behind them it stays 1.
    """
    if case.operator == "multi_head_attention":
        return np.ones((case.batch, case.heads_kv), np.int8)
    return _signs(case, flip_index, first_bit=0 if case.kv_cache == "latent" else 1)


def _signs(case: Case, flip_index: int, *, first_bit: int) -> NDArray[np.int8]:
    if case.bias_grad:  # a sum over heads follows one sign alone
        return np.full((case.batch, case.heads_kv), 1 - 2 * (flip_index >> first_bit & 1), np.int8)
    together = case.operator == "multi_head_attention" or case.strides == "expanded_kv"
    heads = np.zeros(case.heads_kv, np.int64) if together else np.arange(case.heads_kv)
    groups = 1 if together else case.heads_kv
    bits = (np.arange(case.batch)[:, None] * groups + heads[None, :] + first_bit) % _BITS
    return (1 - 2 * (flip_index >> bits & 1)).astype(np.int8)
