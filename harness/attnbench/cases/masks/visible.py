"""Computes the keys that each query sees: the intersection over the kinds of a case's mask.

:func:`row_runs` is the definition. Everything else (dense masks, exact FLOP counts, the oracle, block skipping in a
kernel) follows from it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.table import kinds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


def row_runs(case: Case, batch_index: int) -> NDArray[np.int64]:
    """Return the runs of neighbouring keys that each query of one batch element sees.

    Returns:
        Shape ``(seqlen_q, runs, 2)``: query ``i`` sees the keys ``runs[i, r, 0] <= j < runs[i, r, 1]``. The runs of a
        query are in order and have hidden keys between them; empty runs, which begin where they end, come last.
        Most masks have one run; ``runs`` is never 0.
    """
    return functools.reduce(_intersect, (kind.runs(case, batch_index) for kind in kinds_of(case.mask)))


def _intersect(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    shape = (len(a), a.shape[1] * b.shape[1])
    low = np.maximum(a[:, :, None, 0], b[:, None, :, 0]).reshape(shape)
    high = np.minimum(a[:, :, None, 1], b[:, None, :, 1]).reshape(shape)
    both = np.stack([low, np.maximum(low, high)], axis=-1)
    if both.shape[1] == 1:
        return both
    empty = both[:, :, 0] == both[:, :, 1]
    order = np.argsort(empty, axis=1, kind="stable")
    most = max(1, int((~empty).sum(1).max(initial=0)))
    return np.take_along_axis(both, order[:, :most, None], axis=1)


def row_bounds(case: Case, batch_index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first visible key and the one past the last, for each query of one batch element.

    Returns:
        ``(low, high)``, each of shape ``(seqlen_q,)``: query ``i`` sees the keys ``low[i] <= j < high[i]``.
        A row that sees nothing has ``low == high``.

    Raises:
        ValueError: if a query sees several runs of keys (:func:`row_runs`).
    """
    runs = row_runs(case, batch_index)
    if runs.shape[1] > 1:
        raise ValueError(f"mask {case.mask!r} shows several runs of keys to a query: two bounds cannot say it")
    return runs[:, 0, 0].copy(), runs[:, 0, 1].copy()


def batch_varies(case: Case) -> bool:
    """Whether the mask differs between the elements of a batch."""
    return any(kind.by_batch for kind in kinds_of(case.mask))


def any_visible(case: Case, batch_index: int) -> NDArray[np.bool_]:
    """Whether each query sees a key, shape ``(seqlen_q,)``."""
    first = row_runs(case, batch_index)[:, 0]
    return first[:, 0] < first[:, 1]


def within(runs: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each query sees each key: ``(queries, keys)``.

    Args:
        runs: the runs of each query, ``(queries, runs, 2)``.
        keys: ``(keys,)``, or keys of each query, ``(queries, keys)``.
    """
    seen = (runs[:, 0, :1] <= keys) & (keys < runs[:, 0, 1:])
    for further in range(1, runs.shape[1]):
        seen |= (runs[:, further, :1] <= keys) & (keys < runs[:, further, 1:])
    return seen


def dense_mask(case: Case) -> NDArray[np.bool_]:
    """Return the mask as a boolean array, ``True`` where a query sees a key.

    Returns:
        Shape ``(batch, 1, seqlen_q, seqlen_kv)``, or ``(1, 1, seqlen_q, seqlen_kv)`` if the batch shares one mask.
    """
    keys = np.arange(case.seqlen_kv)
    elements = range(case.batch if batch_varies(case) else 1)
    planes = np.zeros((len(elements), 1, case.seqlen_q, case.seqlen_kv), np.bool_)
    for batch_index in elements:
        planes[batch_index, 0] = within(row_runs(case, batch_index), keys)
    return planes


def visible_pairs(case: Case) -> int:
    """Count the query-key pairs that the mask lets through for one head, summed over the batch."""
    varies = batch_varies(case)
    counts = [int(np.diff(row_runs(case, b)).sum()) for b in range(case.batch if varies else 1)]
    return sum(counts) * (1 if varies else case.batch)
