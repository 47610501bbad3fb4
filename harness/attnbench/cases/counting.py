"""How many query-key pairs a mask lets through, counted without an array: a plan may name cases that fit nowhere."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench.cases import masks
from attnbench.cases.masks.band import pairs_of
from attnbench.cases.masks.table import kinds_of

if TYPE_CHECKING:
    from attnbench.cases.case import Case

MOST_ROWS = 2**24
"""The most rows of a mask whose pairs can only be counted row by row."""


def visible_pairs(case: Case) -> int:
    """Like :func:`attnbench.cases.masks.visible_pairs`, but in constant time for all but a few masks."""
    pairs = _by_formula(case)
    return _by_rows(case) if pairs is None else pairs


@functools.lru_cache(maxsize=4096)
def _by_rows(case: Case) -> int:
    """Once for all of a run's records: a file need not be there for the last of them."""
    return masks.visible_pairs(case)


def cannot_be_counted(case: Case) -> str | None:
    """Why nobody can say how many pairs there are, in a sentence, or ``None``."""
    rows = case.seqlen_q * (case.batch if masks.batch_varies(case) else 1)
    if rows <= MOST_ROWS or _by_formula(case) is not None:
        return None
    return f"mask = {case.mask!r} is counted row by row, and {rows:,} rows are more than {MOST_ROWS:,}"


def _by_formula(case: Case) -> int | None:
    """The pairs of bands and of what intersects nothing; ``None`` for other masks."""
    kinds = kinds_of(case.mask)
    bands = [band for kind in kinds if (band := kind.band(case)) is not None]
    if len(bands) == len(kinds):
        return pairs_of(case, bands)
    return kinds[0].pairs(case) if len(kinds) == 1 else None
