"""The interface of a kind of mask."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from attnbench.cases.requests import own_keys, parse_requests, written
from attnbench.cases.tensors.source import mistake_in
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.cases.masks.band import Band


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """A case field that a kind of mask adds. It is ``None`` in cases whose mask does not include that kind."""

    name: str
    form: Literal["integer", "integers", "boolean", "tensor", "text", "requests"]
    default: int | bool | str | None = None
    """``None`` if the default follows from the lengths (:meth:`Kind.lengths`)."""
    least: int = 0
    mistake: Callable[[object], str | None] = mistake_in
    """For tensors, texts and requests: return what is wrong with a value, as the end of a sentence, or ``None``."""

    def problem(self, value: object) -> str | None:
        """Return a sentence if this is not a valid value of the field, else ``None``."""
        if self.form == "boolean":
            return None if isinstance(value, bool) else f"{self.name} = {value!r} is not true or false"
        if self.form in ("tensor", "text", "requests"):
            return f"{self.name} = {shown(value)} {mistake}" if (mistake := self.mistake(value)) else None
        if self.form == "integers":
            listed = isinstance(value, list | tuple) and all(_is_int(item) for item in value)
            return None if listed else f"{self.name} = {value!r} is not a list of integers"
        if _is_int(value) and value >= self.least:  # type: ignore[operator]  # it is an integer
            return None
        return f"{self.name} = {value!r} is not an integer >= {self.least}"

    def canonical(self, value: object) -> object:
        """Return the form in which a case stores a valid value."""
        if self.form == "requests":
            return written(parse_requests(str(value)))
        return tuple(value) if isinstance(value, list) else value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Kind(abc.ABC):
    """A kind of mask: the keys that its queries see, and its properties."""

    name: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    on_diagonal: ClassVar[bool] = False
    """Whether ``alignment`` matters if the lengths differ."""
    by_position: ClassVar[bool] = True
    """Whether the order of queries and of real keys matters."""
    by_batch: ClassVar[bool] = False
    """Whether elements of a batch may see different keys."""
    causal: ClassVar[bool] = False
    """Whether no query sees far beyond its own position, so that later tokens can be cut off."""
    divisible: ClassVar[bool] = True
    """Whether the first tokens, and the last queries, form a case with the same mask."""
    by_sequence: ClassVar[bool] = True
    """Whether a sequence of the batch by itself, or together with another one, forms a case with the same mask."""
    splits: ClassVar[bool] = False
    """Whether the keys can be split into two parts, each of which forms a case with the same mask."""

    @abc.abstractmethod
    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the runs of keys that each query of a batch element sees (:func:`attnbench.cases.masks.row_runs`)."""

    def band(self, case: Case) -> Band | None:
        """Return the band along the diagonal that this kind describes, or ``None`` if it describes another shape."""
        del case
        return None

    def pairs(self, case: Case) -> int | None:
        """Return the query-key pairs that this kind alone lets through, over the batch; ``None`` without a formula."""
        del case
        return None

    def runs_to_count(self, case: Case) -> int:
        """Return the most runs of keys that a query may see, an estimate of the cost of counting, without an array."""
        del case
        return 1

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return the defaults of parameters that follow from the lengths."""
        del batch, seqlen_q, seqlen_kv
        return {}

    def problems(self, case: Case) -> list[str]:
        """Return a sentence for each contradiction between the parameters and the case."""
        del case
        return []

    def looks_ahead(self, case: Case) -> bool:
        """Whether a query may see keys beyond its own position."""
        del case
        return False

    def query_edges(self, case: Case) -> list[int]:
        """Return queries at which the mask changes, and their neighbours; some may lie outside the sequence."""
        del case
        return []

    def key_edges(self, case: Case) -> list[int]:
        """Return keys at which the mask changes, and their neighbours; some may lie outside the sequence."""
        del case
        return []

    def label(self, case: Case) -> str:
        """Return the kind and its parameters in a few words."""
        del case
        return self.name

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield ways to misread this kind: a phrase ``if ...`` or ``with ...``, and the changed fields of the case.

        A ``mask`` among these replaces this kind alone.
        """
        for parameter in self.parameters:
            value = getattr(case, parameter.name)
            if parameter.form == "integer":
                for other in (value + 1, value - 1):
                    yield f"with {parameter.name} = {other} instead of {value}", {parameter.name: other}


def one_run(case: Case, low: NDArray[np.int64] | int, high: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return one run of keys per query, clipped to the existing keys: (seqlen_q, 1, 2)."""
    low, high = np.clip(low, 0, case.seqlen_kv), np.clip(high, 0, case.seqlen_kv)
    runs = np.empty((case.seqlen_q, 1, 2), np.int64)
    runs[:, 0, 0], runs[:, 0, 1] = low, np.maximum(low, high)
    return runs


def runs_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the runs of True in each row of a boolean matrix, (rows, runs, 2), padded with empty runs (0, 0)."""
    steps = np.diff(mask.view(np.int8), axis=1, prepend=0, append=0)
    (row, first), (_, beyond) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    nth = np.arange(len(row)) - np.searchsorted(row, row)  # of its row's runs
    runs = np.zeros((len(mask), nth.max(initial=0) + 1, 2), np.int64)
    runs[row, nth, 0], runs[row, nth, 1] = first, beyond
    return runs


def positions(case: Case) -> NDArray[np.int64]:
    """Return each query's position among the keys, (seqlen_q,); negative for queries before the first key."""
    if case.requests is not None:
        return own_keys(parse_requests(case.requests))
    return np.arange(case.seqlen_q, dtype=np.int64) + case.diagonal_offset


def around(*marks: int) -> list[int]:
    """Return each mark and its two neighbours."""
    return [mark + step for mark in marks for step in (-1, 0, 1)]
