"""``prefix_lm``: every query sees a prefix of the keys; the rest is causal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.band import pairs_below
from attnbench.cases.masks.kind import Kind, Parameter, around, one_run, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class PrefixLM(Kind):
    """The lower triangle together with the whole first columns."""

    name = "prefix_lm"
    parameters = (Parameter(name="prefix_len", form="integer"),)
    on_diagonal = True
    causal = True

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the keys from the first one to the end of the prefix or to the diagonal, whichever is further."""
        del batch_index
        assert case.prefix_len is not None
        return one_run(case, 0, np.maximum(positions(case) + 1, case.prefix_len))

    def pairs(self, case: Case) -> int:
        """Sum the areas of the prefix and of the triangle beyond it."""
        prefix = case.prefix_len or 0
        rest = pairs_below(case.seqlen_q, case.seqlen_kv - prefix, case.diagonal_offset + 1 - prefix)
        return case.batch * (case.seqlen_q * prefix + rest)

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return a prefix of a quarter of the keys."""
        del batch, seqlen_q
        return {"prefix_len": min(max(1, seqlen_kv // 4), seqlen_kv)}

    def problems(self, case: Case) -> list[str]:
        """Check that the prefix is not longer than the keys."""
        assert case.prefix_len is not None
        if case.prefix_len <= case.seqlen_kv:
            return []
        return [f"prefix_len = {case.prefix_len} is beyond seqlen_kv = {case.seqlen_kv}"]

    def looks_ahead(self, case: Case) -> bool:
        """True: queries see ahead within the prefix."""
        del case
        return True

    def query_edges(self, case: Case) -> list[int]:
        """Return the query at which the diagonal leaves the prefix, if aligned top-left, with neighbours."""
        return around(case.prefix_len or 0)

    def key_edges(self, case: Case) -> list[int]:
        """Return the end of the prefix, with neighbours."""
        return around(case.prefix_len or 0)

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield a prefix that is off by one, and one that is ignored."""
        yield from super().misreadings(case)
        yield "with a causal mask, without the prefix", {"mask": "causal"}
