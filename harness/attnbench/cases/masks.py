"""Which keys each query sees.

Every mask of attnbench lets a query see one run of neighbouring keys, so a mask *is* two numbers for each row:
the first visible key and the first one beyond. Everything else (dense masks, exact FLOP counts, block skipping in
a kernel) follows from :func:`row_bounds`, which is therefore the only place where a mask is defined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


def row_bounds(case: Case, batch_index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First visible key and first key beyond, for each query of one batch element.

    Returns:
        ``(low, high)``, each of shape ``(seqlen_q,)``: query ``i`` sees the keys ``low[i] <= j < high[i]``.
        A row that sees nothing has ``low == high``.
    """
    n_q, n_kv = case.seqlen_q, case.seqlen_kv
    low = np.zeros(n_q, np.int64)
    high = np.full(n_q, n_kv, np.int64)
    diagonal = np.arange(n_q, dtype=np.int64) + case.diagonal_offset
    if case.mask == "causal":
        high = diagonal + 1
    elif case.mask == "sliding_window":
        assert case.window_left is not None
        assert case.window_right is not None
        low = diagonal - case.window_left
        high = diagonal + case.window_right + 1
    elif case.mask == "prefix_lm":
        assert case.prefix_len is not None
        high = np.maximum(diagonal + 1, case.prefix_len)
    elif case.mask == "document":
        assert case.document_lengths is not None
        lengths = np.array(case.document_lengths, np.int64)
        ends = np.cumsum(lengths)
        document = np.searchsorted(ends, np.arange(n_q), side="right")
        low = (ends - lengths)[document]
        high = diagonal + 1 if case.document_causal else ends[document]
    elif case.mask == "key_padding":
        assert case.kv_lengths is not None
        high = np.full(n_q, case.kv_lengths[batch_index], np.int64)
    low, high = np.clip(low, 0, n_kv), np.clip(high, 0, n_kv)
    return low, np.maximum(low, high)


def batch_varies(case: Case) -> bool:
    """Whether the mask differs between the elements of a batch."""
    return case.mask == "key_padding"


def dense_mask(case: Case) -> NDArray[np.bool_]:
    """The mask written out, ``True`` where a query sees a key.

    Returns:
        Shape ``(batch, 1, seqlen_q, seqlen_kv)``, or ``(1, 1, seqlen_q, seqlen_kv)`` where the batch shares one mask.
    """
    keys = np.arange(case.seqlen_kv)
    planes = []
    for batch_index in range(case.batch if batch_varies(case) else 1):
        low, high = row_bounds(case, batch_index)
        planes.append((low[:, None] <= keys) & (keys < high[:, None]))
    return np.stack(planes)[:, None]


def visible_pairs(case: Case) -> int:
    """How many query-key pairs the mask lets through, summed over the batch, for one head."""
    if not batch_varies(case):
        low, high = row_bounds(case, 0)
        return case.batch * int((high - low).sum())
    return sum(int((high - low).sum()) for low, high in (row_bounds(case, b) for b in range(case.batch)))
