"""``left_padding``: the first keys of each batch element are padding, as in a batch of prompts of unequal length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.masks.band import Band
from attnbench.cases.masks.kind import Kind, Parameter, around, one_run
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class LeftPadding(Kind):
    """The last columns, their number given per batch element."""

    name = "left_padding"
    parameters = (Parameter(name="kv_starts", form="integers"),)
    by_position = False
    by_batch = True
    splits = True

    def band(self, case: Case) -> Band:
        """Return the real keys."""
        return Band(starts=case.kv_starts)

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the real keys."""
        assert case.kv_starts is not None
        return one_run(case, case.kv_starts[batch_index], case.seqlen_kv)

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return starts from no padding for the first batch element up to half for the last; 1/4 for a single one."""
        del seqlen_q
        if batch == 1:
            return {"kv_starts": (seqlen_kv // 4,)}
        return {"kv_starts": tuple(seqlen_kv * b // (2 * (batch - 1)) for b in range(batch))}

    def problems(self, case: Case) -> list[str]:
        """Check that there is a valid first key per batch element."""
        starts = case.kv_starts or ()
        if len(starts) == case.batch and all(0 <= start <= case.seqlen_kv for start in starts):
            return []
        all_keys = f"keys of 0 to {case.seqlen_kv} (seqlen_kv)"
        return [f"kv_starts = {shown(list(starts))} must be {case.batch} (batch) {all_keys}"]

    def looks_ahead(self, case: Case) -> bool:
        """True: a query sees all keys to the last."""
        del case
        return True

    def key_edges(self, case: Case) -> list[int]:
        """Return the keys at which padding ends, with neighbours."""
        return around(*(case.kv_starts or ()))

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield one key more or less, padding on the other side, and one start for all."""
        starts = case.kv_starts or ()
        yield "if one padded key is seen", {"kv_starts": tuple(max(n - 1, 0) for n in starts)}
        yield "if the first real key is not seen", {"kv_starts": tuple(min(n + 1, case.seqlen_kv) for n in starts)}
        if case.kv_lengths is None:
            other = tuple(case.seqlen_kv - n for n in starts)
            yield "if the last keys are padding, not the first", {"mask": "key_padding", "kv_lengths": other}
        yield "with the padding of the first sequence for all", {"kv_starts": starts[:1] * case.batch}
