"""Recognises masks as kinds of a case's masks. A kind is named only if its dense mask is exactly the given one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnbench.cases.case import CaseError, make_case
from attnbench.cases.masks import batch_varies, dense_mask, row_runs
from attnbench.cases.masks.table import mask_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.cases.choices import Alignment

TENSOR = "tensor"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MaskFields:
    """The mask fields of a case; ``tensor`` holds the mask of kind ``tensor``, which a case takes from a file."""

    mask: str = "none"
    alignment: Alignment = "top_left"
    window_left: int | None = None
    window_right: int | None = None
    prefix_len: int | None = None
    document_lengths: tuple[int, ...] | None = None
    document_causal: bool | None = None
    kv_lengths: tuple[int, ...] | None = None
    kv_starts: tuple[int, ...] | None = None
    tensor: NDArray[np.bool_] | None = None
    """Boolean, broadcastable to (batch, 1, seqlen_q, seqlen_kv)."""

    def fields(self) -> dict[str, object]:
        """Return keyword arguments of :func:`make_case`, without the file and without absent fields."""
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != TENSOR}
        if said["alignment"] == "top_left":
            del said["alignment"]
        return {name: value for name, value in said.items() if value is not None}

    def without_tensor(self) -> MaskFields:
        """Return the fields without the kind ``tensor``."""
        mask = " & ".join(name for name in mask_names(self.mask) if name != TENSOR) or "none"
        return dataclasses.replace(self, mask=mask, tensor=None)

    def joined(self, other: str, **more: object) -> MaskFields:
        """Return the intersection with another kind."""
        mask = other if self.mask == "none" else f"{self.mask} & {other}"
        return dataclasses.replace(self, mask=mask, **more)  # type: ignore[arg-type]  # fields of this class


def recognised(visible: NDArray[np.bool_], batch: int, seqlen_q: int, seqlen_kv: int) -> MaskFields:
    """Return the simplest fields that describe the mask exactly, else the mask as a tensor.

    ``visible`` is true where a query sees a key, broadcastable to (batch, seqlen_q, seqlen_kv).
    """
    if visible.all():
        return MaskFields()
    elements = 1 if visible.shape[0] == 1 else batch
    seen: NDArray[np.bool_] = np.broadcast_to(visible, (elements, seqlen_q, seqlen_kv))
    if elements > 1 and (seen == seen[:1]).all():
        seen, elements = seen[:1], 1
    of_any: NDArray[np.bool_] = np.logical_or.reduce(seen, axis=0)
    shapes = [MaskFields(), *_shapes(of_any)]
    bounds = _Bounds.of(seen)
    if bounds is not None:
        paddings = bounds.paddings(batch)
        padded = [shape.joined(kind, **more) for shape in shapes for kind, more in paddings]
        alone = len(paddings)
        for said in (*shapes[:3], *padded[:alone], *shapes[3:], *padded[alone:]):
            if bounds.are_of(said, batch):
                return said
    keys: NDArray[np.bool_] = np.logical_or.reduce(seen, axis=1)
    for shape in shapes:
        case = _case(shape, 1, seqlen_q, seqlen_kv)
        if case is not None and bool(((dense_mask(case)[0] & keys[:, None]) == seen).all()):
            return shape.joined(TENSOR, tensor=keys[:, None, None, :])
    return MaskFields(mask=TENSOR, tensor=np.ascontiguousarray(visible)[:, None])


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """The single run of keys that each query sees: bounds (elements, seqlen_q), both 0 for queries that see no key."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    seqlen_kv: int

    @classmethod
    def of(cls, seen: NDArray[np.bool_]) -> _Bounds | None:
        """Return the runs of a mask (elements, seqlen_q, seqlen_kv); ``None`` if a query sees several."""
        keys = seen.shape[-1]
        counts = seen.sum(axis=-1)
        low = np.where(counts > 0, seen.argmax(axis=-1), 0)
        high = np.where(counts > 0, keys - seen[..., ::-1].argmax(axis=-1), 0)
        return cls(low, high, keys) if (high - low == counts).all() else None

    def paddings(self, batch: int) -> list[tuple[str, dict[str, tuple[int, ...]]]]:
        """Return the kinds of padding that hide the first or last keys of each element, or both, with their fields."""
        starts = np.where(self.low < self.high, self.low, self.seqlen_kv).min(axis=1)
        first, beyond = (
            tuple(int(n) for n in np.broadcast_to(ends, batch)) for ends in (starts, self.high.max(axis=1))
        )
        right, left = {"kv_lengths": beyond}, {"kv_starts": first}
        both = {"kv_lengths": tuple(map(max, first, beyond)), **left}
        return [("key_padding", right), ("left_padding", left), ("key_padding & left_padding", both)]

    def are_of(self, said: MaskFields, batch: int) -> bool:
        """Whether the described mask equals this one for each element of the batch."""
        case = _case(said, batch, self.low.shape[1], self.seqlen_kv)
        if case is None:
            return False
        elements = batch if batch_varies(case) or len(self.low) > 1 else 1
        return all(self._is(row_runs(case, b), min(b, len(self.low) - 1)) for b in range(elements))

    def _is(self, runs: NDArray[np.int64], element: int) -> bool:
        low, high = runs[:, 0, 0], runs[:, 0, 1]
        empty = low >= high
        same = (np.where(empty, 0, low) == self.low[element]) & (np.where(empty, 0, high) == self.high[element])
        return bool(same.all())


def _case(said: MaskFields, batch: int, seqlen_q: int, seqlen_kv: int) -> Case | None:
    """Return a case with this mask, or ``None`` if the fields are invalid."""
    try:
        return make_case(batch=batch, seqlen_q=seqlen_q, seqlen_kv=seqlen_kv, **said.fields())
    except CaseError:
        return None


def _shapes(seen: NDArray[np.bool_]) -> Iterator[MaskFields]:
    """Yield candidate masks for the union over the batch, (seqlen_q, seqlen_kv), the simplest first."""
    alignments: tuple[Literal["top_left"], Literal["bottom_right"]] = ("top_left", "bottom_right")
    for alignment in alignments:
        yield MaskFields(mask="causal", alignment=alignment)
    queries, keys = seen.shape
    rows = np.flatnonzero(seen.any(axis=1))
    if not rows.size:
        return
    low, high = seen[rows].argmax(axis=1), keys - seen[rows, ::-1].argmax(axis=1)
    for alignment in alignments:
        place = rows + (keys - queries if alignment == "bottom_right" else 0)
        # A side that the first key cuts off in every row has no length of its own; all keys are taken.
        left = int((place - low).max()) if low.any() else keys
        right = int((high - 1 - place).max())
        yield MaskFields(
            mask="sliding_window", alignment=alignment, window_left=max(left, 0), window_right=max(right, 0)
        )
        yield MaskFields(mask="prefix_lm", alignment=alignment, prefix_len=int(high[0]))
    if queries == keys:
        starts = sorted({0, *(int(start) for start in low)})
        lengths = tuple(int(n) for n in np.diff([*starts, queries]))
        for causal in (False, True):
            yield MaskFields(mask="document", document_lengths=lengths, document_causal=causal)
