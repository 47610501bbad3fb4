"""``none``: every query sees every key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.masks.band import Band
from attnbench.cases.masks.kind import Kind, one_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class NoMask(Kind):
    """The mask that hides nothing."""

    name = "none"
    by_position = False
    splits = True

    def band(self, case: Case) -> Band:
        """Return an unbounded band."""
        del case
        return Band()

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return all keys."""
        del batch_index
        return one_run(case, 0, case.seqlen_kv)

    def looks_ahead(self, case: Case) -> bool:
        """True: a query sees all keys."""
        del case
        return True

    def label(self, case: Case) -> str:
        """Return ``no mask``."""
        del case
        return "no mask"
