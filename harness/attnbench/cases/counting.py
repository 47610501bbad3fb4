"""Counts the visible query-key pairs of a mask without building it: a plan may name cases that fit into no memory."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from attnbench.cases import masks
from attnbench.cases.masks.band import pairs_of
from attnbench.cases.masks.table import kinds_of

if TYPE_CHECKING:
    from attnbench.cases.case import Case

MOST_ROWS = 2**24
"""The most rows that are accepted of a mask whose pairs must be counted row by row."""
MOST_RUNS = 2**25
"""The most runs of keys that are accepted in these rows: an array of them takes half a GiB."""
_ROWS_OF_AN_ELEMENT = 256
"""Fixed cost of a batch element, expressed in rows."""


def visible_pairs(case: Case) -> int:
    """Return what :func:`attnbench.cases.masks.visible_pairs` does, but in constant time for most masks."""
    pairs = _by_formula(case)
    return _by_rows(case) if pairs is None else pairs


@functools.lru_cache(maxsize=4096)
def _by_rows(case: Case) -> int:
    """Count row by row; cached, so that a mask's file may be gone by the time the last record of a run is written."""
    return masks.visible_pairs(case)


def cannot_be_counted(case: Case) -> str | None:
    """Return a sentence if counting the pairs would take too long or too much memory, else ``None``."""
    rows = max(case.seqlen_q, _ROWS_OF_AN_ELEMENT) * case.batch if masks.batch_varies(case) else case.seqlen_q
    runs = rows * math.prod(kind.runs_to_count(case) for kind in kinds_of(case.mask))
    if (rows <= MOST_ROWS and runs <= MOST_RUNS) or _by_formula(case) is not None:
        return None
    counted = f"mask = {case.mask!r} is counted row by row"
    if rows > MOST_ROWS:
        return f"{counted}, and {case.seqlen_q:,} rows of a batch of {case.batch:,} are more than {MOST_ROWS:,}"
    return f"{counted}, and {runs:,} runs of keys in its rows are more than {MOST_RUNS:,}"


def _by_formula(case: Case) -> int | None:
    """Return the pairs of an intersection of bands, or of a single kind with a formula; ``None`` for other masks."""
    kinds = kinds_of(case.mask)
    bands = [band for kind in kinds if (band := kind.band(case)) is not None]
    if len(bands) == len(kinds):
        return pairs_of(case, bands)
    return kinds[0].pairs(case) if len(kinds) == 1 else None
