"""How many query-key pairs a mask lets through, counted without an array: a plan may name cases that fit nowhere."""

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
"""The most rows of a mask whose pairs can only be counted row by row."""
MOST_RUNS = 2**25
"""The most runs of keys that these rows see: an array of them is half a GiB."""
_ROWS_OF_AN_ELEMENT = 256
"""The rows that take as long as beginning with another element of the batch."""


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
    rows = max(case.seqlen_q, _ROWS_OF_AN_ELEMENT) * case.batch if masks.batch_varies(case) else case.seqlen_q
    runs = rows * math.prod(kind.runs_to_count(case) for kind in kinds_of(case.mask))
    if (rows <= MOST_ROWS and runs <= MOST_RUNS) or _by_formula(case) is not None:
        return None
    counted = f"mask = {case.mask!r} is counted row by row"
    if rows > MOST_ROWS:
        return f"{counted}, and {case.seqlen_q:,} rows of a batch of {case.batch:,} are more than {MOST_ROWS:,}"
    return f"{counted}, and {runs:,} runs of keys in its rows are more than {MOST_RUNS:,}"


def _by_formula(case: Case) -> int | None:
    """The pairs of bands and of what intersects nothing; ``None`` for other masks."""
    kinds = kinds_of(case.mask)
    bands = [band for kind in kinds if (band := kind.band(case)) is not None]
    if len(bands) == len(kinds):
        return pairs_of(case, bands)
    return kinds[0].pairs(case) if len(kinds) == 1 else None
