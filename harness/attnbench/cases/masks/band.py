"""Bands along the diagonal, whose pairs are counted without an array."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """The keys from ``left`` before a query's position to ``right`` behind it, of the first ``keys``; none: no end."""

    left: int | None = None
    right: int | None = None
    keys: tuple[int, ...] | None = None
    """Of each batch element."""


def pairs_of(case: Case, bands: Sequence[Band]) -> int:
    """How many query-key pairs lie in all of the bands, over the batch."""
    rows, first = case.seqlen_q, case.diagonal_offset
    lefts = [band.left for band in bands if band.left is not None]
    rights = [band.right for band in bands if band.right is not None]
    keys_of = [band.keys for band in bands if band.keys is not None]
    elements = [min(keys) for keys in zip(*keys_of, strict=True)] or [case.seqlen_kv]
    seen = 0
    for keys in elements:
        seen += pairs_below(rows, keys, first + min(rights) + 1) if rights else rows * keys
        seen -= pairs_below(rows, keys, first - min(lefts)) if lefts else 0
    return seen if keys_of else case.batch * seen


def pairs_below(rows: int, keys: int, first: int) -> int:
    """Sum of ``first``, ``first + 1``, ..., ``rows`` terms, each cut to between none and all of the keys."""
    return _triangle(rows + first, keys) - _triangle(first, keys)


def _triangle(rows: int, keys: int) -> int:
    """0 + 1 + 2 + ..., ``rows`` terms, none of them larger than ``keys``."""
    rows = max(0, rows)
    growing = min(rows, keys)
    return growing * (growing - 1) // 2 + (rows - growing) * keys
