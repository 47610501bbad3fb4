"""Bands along the diagonal, whose query-key pairs are counted by formulas."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """The keys from ``left`` before a query's position to ``right`` after it, between ``starts`` and ``keys``.

    ``None`` means no bound on that side.
    """

    left: int | None = None
    right: int | None = None
    starts: tuple[int, ...] | None = None
    """First key of each batch element."""
    keys: tuple[int, ...] | None = None
    """One past the last key of each batch element."""


def pairs_of(case: Case, bands: Sequence[Band]) -> int:
    """Count the query-key pairs in the intersection of the bands, over the batch."""
    first_of = [band.starts for band in bands if band.starts is not None]
    lefts = [band.left for band in bands if band.left is not None]
    rights = [band.right for band in bands if band.right is not None]
    keys_of = [band.keys for band in bands if band.keys is not None]
    ends = [min(keys) for keys in zip(*keys_of, strict=True)] or [case.seqlen_kv] * case.batch
    starts = [max(keys) for keys in zip(*first_of, strict=True)] or [0] * case.batch

    def seen(keys: int) -> int:
        return _pairs_of_first(case, keys, min(lefts, default=None), min(rights, default=None))

    if not keys_of and not first_of:
        return case.batch * seen(case.seqlen_kv)
    return sum(seen(end) - seen(min(start, end)) for start, end in zip(starts, ends, strict=True))


def _pairs_of_first(case: Case, keys: int, left: int | None, right: int | None) -> int:
    """Count a batch element's pairs with its first ``keys`` keys that lie between ``left`` and ``right``."""
    rows, first = case.seqlen_q, case.diagonal_offset
    seen = rows * keys if right is None else pairs_below(rows, keys, first + right + 1)
    return seen if left is None else seen - pairs_below(rows, keys, first - left)


def pairs_below(rows: int, keys: int, first: int) -> int:
    """Return the sum of the ``rows`` terms ``first``, ``first + 1``, ..., each clipped to 0 .. ``keys``."""
    return _triangle(rows + first, keys) - _triangle(first, keys)


def _triangle(rows: int, keys: int) -> int:
    """Return the sum of the ``rows`` terms 0, 1, 2, ..., each at most ``keys``."""
    rows = max(0, rows)
    growing = min(rows, keys)
    return growing * (growing - 1) // 2 + (rows - growing) * keys
