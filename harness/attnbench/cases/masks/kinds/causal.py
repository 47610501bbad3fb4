"""``causal``: a query sees the keys up to its own position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.masks.band import Band
from attnbench.cases.masks.kind import Kind, one_run, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class Causal(Kind):
    """A triangle below the diagonal, the diagonal included."""

    name = "causal"
    on_diagonal = True
    causal = True
    splits = True

    def band(self, case: Case) -> Band:
        """Return the band up to the diagonal."""
        del case
        return Band(right=0)

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the keys from the first one to the diagonal."""
        del batch_index
        return one_run(case, 0, positions(case) + 1)

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield a mask without its diagonal, and one that shows a key too many."""
        wide: dict[str, object] = {"mask": "sliding_window", "window_left": case.seqlen_kv}
        yield "if a query does not see its own position", {**wide, "window_right": -1}
        yield "if a query sees one key beyond its own position", {**wide, "window_right": 1}
