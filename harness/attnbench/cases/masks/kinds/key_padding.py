"""``key_padding``: only the first keys of each batch element are real."""

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

_TILES = (256, 128, 64, 32, 16)


class KeyPadding(Kind):
    """The first columns, their number given per batch element."""

    name = "key_padding"
    parameters = (Parameter(name="kv_lengths", form="integers"),)
    by_position = False
    by_batch = True
    splits = True

    def band(self, case: Case) -> Band:
        """Return the real keys."""
        return Band(keys=case.kv_lengths)

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the real keys."""
        assert case.kv_lengths is not None
        return one_run(case, 0, case.kv_lengths[batch_index])

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return lengths from all keys for the first batch element down to half for the last; 3/4 for a single one."""
        del seqlen_q
        if batch == 1:
            return {"kv_lengths": (min(max(1, 3 * seqlen_kv // 4), seqlen_kv),)}
        return {"kv_lengths": tuple(seqlen_kv - seqlen_kv * b // (2 * (batch - 1)) for b in range(batch))}

    def problems(self, case: Case) -> list[str]:
        """Check that there is a valid length per batch element."""
        lengths = case.kv_lengths or ()
        if len(lengths) == case.batch and all(0 <= length <= case.seqlen_kv for length in lengths):
            return []
        all_lengths = f"lengths of 0 to {case.seqlen_kv} (seqlen_kv)"
        return [f"kv_lengths = {shown(list(lengths))} must be {case.batch} (batch) {all_lengths}"]

    def looks_ahead(self, case: Case) -> bool:
        """True: a query sees all real keys."""
        del case
        return True

    def key_edges(self, case: Case) -> list[int]:
        """Return the keys at which padding begins, with neighbours."""
        return around(*(case.kv_lengths or ()))

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield one key more or less, lengths rounded up to tiles, and one length for all."""
        lengths = case.kv_lengths or ()
        longer = tuple(min(n + 1, case.seqlen_kv) for n in lengths)
        yield "if one padded key is seen", {"kv_lengths": longer}
        yield "if the last real key is not seen", {"kv_lengths": tuple(max(n - 1, 0) for n in lengths)}
        for tile in _TILES:
            up = tuple(min(-(-n // tile) * tile, case.seqlen_kv) for n in lengths)
            if up not in (lengths, longer):
                yield f"if keys are seen up to the end of a tile of {tile}", {"kv_lengths": up}
        yield "with all sequences as long as the first", {"kv_lengths": lengths[:1] * case.batch}
