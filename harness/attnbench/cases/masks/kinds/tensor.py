"""``tensor``: an arbitrary boolean mask from a file or from a seed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.kind import Kind, Parameter, runs_of
from attnbench.cases.tensors.planes import mask_tensor, misread
from attnbench.cases.tensors.source import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class Tensor(Kind):
    """A boolean matrix per batch element, or one for all."""

    name = "tensor"
    parameters = (Parameter(name="mask_file", form="tensor", default="random:0"),)
    by_batch = True
    divisible = False
    by_sequence = False

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the runs of True in the matrix."""
        assert case.mask_file is not None
        return _runs(case.mask_file, (case.batch, case.seqlen_q, case.seqlen_kv), batch_index)

    def runs_to_count(self, case: Case) -> int:
        """Return a rough estimate: files usually have few runs, and a drawn mask at most one per few keys."""
        return max(1, case.seqlen_kv // 16)

    def looks_ahead(self, case: Case) -> bool:
        """True: it is unknown without reading the mask."""
        del case
        return True

    def label(self, case: Case) -> str:
        """Return the kind with the seed or the name of the file."""
        return f"tensor {short(case.mask_file or '')}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield the inverted mask, the transposed one, and the first sequence's mask for all."""
        text = case.mask_file or ""
        yield "if True in the mask hides a key", {"mask_file": misread("inverted", text)}
        if case.seqlen_q == case.seqlen_kv:
            yield "with the mask transposed", {"mask_file": misread("transposed", text)}
        if case.batch > 1:
            yield "with the mask of the first sequence for all", {"mask_file": misread("first", text)}


@functools.lru_cache(maxsize=2)
def _runs(text: str, shape: tuple[int, int, int], batch_index: int) -> NDArray[np.int64]:
    """Return the runs of one sequence's rows; cached, as each head of the sequence asks for them."""
    batch, rows, keys = shape
    mask = np.broadcast_to(mask_tensor(text, *shape), (batch, 1, rows, keys))[batch_index, 0]
    runs = runs_of(mask)
    runs.flags.writeable = False
    return runs
