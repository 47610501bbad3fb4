"""Chooses the tokens that represent a long sequence: edges where kernels go wrong, and an even spread.

The spread is stratified: one random token from each of n equal stretches, so that every stretch is represented.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attnbench.cases.masks.kind import around
from attnbench.cases.masks.table import kinds_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnbench.cases.case import Case

_TILE_EDGES = (0, 1, 63, 64, 65, 127, 128, 129)
_INDEX_EDGES = (65535, 65536, 65537)  # where 16-bit indices end
SPARSE_PAIRS = 2**28
"""Beyond this many query-key pairs in a group of heads, gradients are judged with a sparse upstream gradient."""
SPARSE_ROWS = 64


def query_edges(case: Case) -> list[int]:
    """Return the queries at edges of tiles, of the sequence and of the mask."""
    last = case.seqlen_q - 1
    edges = {*_TILE_EDGES, last - 1, last, last // 2, *_INDEX_EDGES}
    edges |= {*around(case.seqlen_kv - case.diagonal_offset, -case.diagonal_offset)}
    edges |= {row for kind in kinds_of(case.mask) for row in kind.query_edges(case)}
    return sorted(row for row in edges if 0 <= row <= last)


def key_edges(case: Case) -> list[int]:
    """Return the keys at edges of tiles, of the sequence and of the mask."""
    last = case.seqlen_kv - 1
    edges = {*_TILE_EDGES, last - 1, last, last // 64 * 64, last // 128 * 128, *_INDEX_EDGES}
    edges |= {*around(case.diagonal_offset, case.seqlen_q + case.diagonal_offset)}
    edges |= {key for kind in kinds_of(case.mask) for key in kind.key_edges(case)}
    return sorted(key for key in edges if 0 <= key <= last)


def spread(total: int, count: int, edges: Iterable[int], generator: random.Random) -> tuple[int, ...] | None:
    """Choose at least ``count`` of ``total`` tokens: the edges, and one from each of ``count`` equal stretches.

    Returns:
        ``None`` where that is all of them.
    """
    if count >= total:
        return None
    chosen = set(edges)
    for stretch in range(count):
        chosen.add(generator.randrange(stretch * total // count, (stretch + 1) * total // count))
    return tuple(sorted(chosen))


def group_pairs(case: Case) -> int:
    """Count the query-key pairs, hidden ones too, of the heads that share a key head (of all heads, if projected)."""
    shared = case.heads_q if case.operator == "multi_head_attention" else case.heads_q // case.heads_kv
    return shared * case.seqlen_q * case.seqlen_kv


def upstream_rows(case: Case, repetition: int) -> tuple[int, ...] | None:
    """Return the queries whose upstream gradient is not zero, or ``None`` if that is all queries.

    dK and dV of a key sum contributions of all queries. To judge a few keys of a long sequence without computing all
    pairs, the first inputs of such a case (``repetition`` 0) have an upstream gradient that is zero except for a sample
    of queries. Timed calls (other repetitions) have the full gradient.
    """
    if not case.needs_gradients or repetition != 0 or group_pairs(case) <= SPARSE_PAIRS or case.strides == "summed":
        return None
    return spread(case.seqlen_q, SPARSE_ROWS, query_edges(case), random.Random(f"{case.case_id}/upstream"))
