"""Score modifications that add a bias: a tensor, or ALiBi and T5's relative bias, which follow the distance."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.table import kinds_of
from attnbench.cases.score_mods import in_order
from attnbench.cases.tensors.planes import bias_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

RELATIVE_BUCKETS = 32
RELATIVE_MAX_DISTANCE = 128


def alibi_slopes(heads: int) -> NDArray[np.float64]:
    """Return the slope of each head, shape ``(heads,)``.

    Press, Smith and Lewis, "Train Short, Test Long" (ICLR 2022), section 3: a geometric sequence that starts at
    ``2^(-8/heads)``. If ``heads`` is not a power of two, the authors' code takes the slopes of the power of two below,
    followed by every other slope of the power above; so do we.
    """

    def powers(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (h + 1) / n) for h in range(n)]

    below = 2 ** int(math.log2(heads))
    return np.array(powers(below) + powers(2 * below)[0::2][: heads - below])


def relative_buckets(relative_position: NDArray[np.int64], *, bidirectional: bool) -> NDArray[np.int64]:
    """Return T5's bucket of each ``key position - query position``: the argument's shape, values 0 to 31.

    Raffel et al., "Exploring the Limits of Transfer Learning" (JMLR 2020), section 2.1: half of the buckets are
    single distances, the other half widens logarithmically up to 128; all distances beyond share the last one.
    """
    buckets = RELATIVE_BUCKETS
    result = np.zeros_like(relative_position)
    if bidirectional:
        buckets //= 2
        result += (relative_position > 0) * buckets
        distance = np.abs(relative_position)
    else:
        distance = np.maximum(-relative_position, 0)
    exact = buckets // 2
    # float32, and truncation, as in the model's code: the bucket edges are part of the trained weights' meaning.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(RELATIVE_MAX_DISTANCE / exact)
    )
    wide = exact + (ratio * np.float32(buckets - exact)).astype(np.int64)
    return result + np.where(distance < exact, distance, np.minimum(wide, buckets - 1))


def is_bidirectional(case: Case) -> bool:
    """Whether a query of this case may see later keys; T5 then splits the buckets between both directions."""
    return all(kind.looks_ahead(case) for kind in kinds_of(case.mask))


def tensor_bias(case: Case) -> NDArray[np.floating]:
    """Return the read-only bias tensor of ``score_mod = "bias"``: float64 if its file holds that, else float32.

    Returns:
        Four axes, broadcastable to ``(batch, heads_q, seqlen_q, seqlen_kv)``; -inf hides a key.

    Raises:
        TensorError: if its file does not hold it.
    """
    assert case.bias_file is not None
    return bias_tensor(case.bias_file, case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)


def scores_in_bias(case: Case) -> int:
    """Return how many scores an element of :func:`tensor_bias` is added to."""
    scores = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
    return scores // max(1, tensor_bias(case).size)


def score_bias(
    case: Case,
    head: int,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    table: NDArray[np.float64] | None,
    batch_index: int = 0,
) -> NDArray[np.float64] | None:
    """Return the bias that the score modification adds to the scaled scores of one head.

    Args:
        case: the problem.
        head: index of the query head.
        rows: query indices, shape ``(r,)``.
        columns: key indices, shape ``(c,)``.
        table: the relative bias of shape ``(heads_q, 32)``, if the case has one.
        batch_index: index of the sequence; a bias tensor may differ between sequences.

    Returns:
        Shape ``(r, c)``, or ``None`` if nothing is added.
    """
    added = []
    if "bias" in case.score_mods:
        whole = np.broadcast_to(tensor_bias(case), (case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv))
        added.append(whole[batch_index, head][np.ix_(rows, columns)].astype(np.float64))
    relative = columns[None, :] - (rows[:, None] + case.diagonal_offset)
    if "alibi" in case.score_mods:
        added.append(-alibi_slopes(case.heads_q)[head] * np.abs(relative))
    if "relative_bias" in case.score_mods:
        if table is None:
            raise ValueError("score_mod = 'relative_bias' needs its table")
        added.append(table[head][relative_buckets(relative, bidirectional=is_bidirectional(case))])
    return np.sum(added, axis=0) if added else None


def dense_bias(case: Case, table: NDArray[np.float64] | None) -> NDArray[np.floating] | None:
    """Return the sum of all biases of the scores, or ``None`` if the case has none.

    A bias tensor whose gradient is requested is an operand, and is left out.

    Returns:
        Shape ``(batch or 1, heads_q or 1, seqlen_q, seqlen_kv)``.
    """
    if case.bias_grad:
        case = dataclasses.replace(case, score_mod=in_order({*case.score_mods} - {"bias"}), bias_grad=None)
    if case.score_mods == ("bias",):
        tensor = tensor_bias(case)
        return np.array(np.broadcast_to(tensor, (*tensor.shape[:2], case.seqlen_q, case.seqlen_kv)))
    if {"bias", "alibi", "relative_bias"}.isdisjoint(case.score_mods):
        return None
    rows, columns = np.arange(case.seqlen_q), np.arange(case.seqlen_kv)
    elements = len(tensor_bias(case)) if "bias" in case.score_mods else 1
    whole = np.empty((elements, case.heads_q, case.seqlen_q, case.seqlen_kv))
    for b, head in np.ndindex(elements, case.heads_q):
        whole[b, head] = score_bias(case, head, rows, columns, table, b)
    return whole
