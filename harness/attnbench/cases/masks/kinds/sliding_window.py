"""``sliding_window``: a query sees so many keys to the left and to the right of its own position."""

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
        """The window."""
        return Band(left=case.window_left, right=case.window_right)

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """The window around the diagonal."""
        del batch_index
        assert case.window_left is not None
        assert case.window_right is not None
        place = positions(case)
        return one_run(case, place - case.window_left, place + case.window_right + 1)

    def looks_ahead(self, case: Case) -> bool:
        """Whether the window reaches beyond the diagonal."""
        return bool(case.window_right)

    def query_edges(self, case: Case) -> list[int]:
        """The first query whose window begins among the keys."""
        return around(case.window_left or 0)

    def label(self, case: Case) -> str:
        """With both sides."""
        return f"sliding_window {case.window_left}+{case.window_right}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Sides that are off by one, or exchanged."""
        yield from super().misreadings(case)
        exchanged: dict[str, object] = {"window_left": case.window_right, "window_right": case.window_left}
        yield "with left and right of the window exchanged", exchanged
