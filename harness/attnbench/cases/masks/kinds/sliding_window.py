"""``sliding_window``: a query sees a given number of keys to the left and to the right of its own position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.masks.band import Band
from attnbench.cases.masks.kind import Kind, Parameter, around, one_run, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class SlidingWindow(Kind):
    """A band along the diagonal, the diagonal included."""

    name = "sliding_window"
    parameters = (
        Parameter(name="window_left", form="integer", default=256),
        Parameter(name="window_right", form="integer", default=0),
    )
    on_diagonal = True
    causal = True

    def band(self, case: Case) -> Band:
        """Return the window as a band."""
        return Band(left=case.window_left, right=case.window_right)

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the window around the diagonal."""
        del batch_index
        assert case.window_left is not None
        assert case.window_right is not None
        place = positions(case)
        return one_run(case, place - case.window_left, place + case.window_right + 1)

    def looks_ahead(self, case: Case) -> bool:
        """Whether the window reaches beyond the diagonal."""
        return bool(case.window_right)

    def query_edges(self, case: Case) -> list[int]:
        """Return the first query whose window begins within the keys, with neighbours."""
        return around(case.window_left or 0)

    def label(self, case: Case) -> str:
        """Return the kind with both sides."""
        return f"sliding_window {case.window_left}+{case.window_right}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield sides that are off by one, and sides exchanged."""
        yield from super().misreadings(case)
        exchanged: dict[str, object] = {"window_left": case.window_right, "window_right": case.window_left}
        yield "with left and right of the window exchanged", exchanged
