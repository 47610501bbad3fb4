"""Mistakes in the bounds of sequences: which keys are padding, and which tokens a ragged batch's request has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks import dense_mask
from attnbench.cases.masks.kinds.ragged import each, one_key_late
from attnbench.cases.requests import Requests, written
from attnbench.mutants.steps import OtherMask, Steps, other_mask, with_other

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

    Bounds = tuple[NDArray[np.int64] | int, NDArray[np.int64]]


class PaddingIgnored(OtherMask):
    """Padded keys are seen."""

    def changed(self, case: Case) -> Case:
        return other_mask("key_padding", "none", case)


class PaddingOneBeyond(OtherMask):
    """The first padded key is seen."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "kv_lengths", lambda lengths: tuple(min(n + 1, case.seqlen_kv) for n in lengths))


class PaddingOneShort(OtherMask):
    """The last real key is not seen."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "kv_lengths", lambda lengths: tuple(max(n - 1, 0) for n in lengths))


class PaddingOfFirstSequence(OtherMask):
    """All sequences of a batch are taken to be as long as the first one."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "kv_lengths", lambda lengths: (lengths[0],) * case.batch)


class LeftPaddingOnTheRight(OtherMask):
    """The keys that should be hidden at the beginning are hidden at the end."""

    def changed(self, case: Case) -> Case:
        if case.kv_starts is None or case.kv_lengths is not None:
            return case
        lengths = tuple(case.seqlen_kv - start for start in case.kv_starts)
        return other_mask("left_padding", "key_padding", case, kv_lengths=lengths)


class PaddingOnTheLeft(OtherMask):
    """The keys that should be hidden at the end are hidden at the beginning."""

    def changed(self, case: Case) -> Case:
        if case.kv_lengths is None or case.kv_starts is not None:
            return case
        starts = tuple(case.seqlen_kv - length for length in case.kv_lengths)
        return other_mask("key_padding", "left_padding", case, kv_starts=starts)


class LeftPaddingIgnored(OtherMask):
    """Padded keys before the first real one are seen."""

    def changed(self, case: Case) -> Case:
        return other_mask("left_padding", "none", case)


class LeftPaddingOneBefore(OtherMask):
    """The last padded key before the first real one is seen."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "kv_starts", lambda starts: tuple(max(start - 1, 0) for start in starts))


class LeftPaddingMovesDiagonal(Steps):
    """The diagonal is counted from the first real key, and queries from the first of all."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.kv_starts is None or visible is None or "causal" not in case.mask_kinds:
            return visible
        moved = [np.roll(plane, start, axis=-1) for plane, start in zip(visible, case.kv_starts, strict=True)]
        return np.stack(moved) & dense_mask(other_mask("causal", "none", case))


class _OfRequests(Steps):
    """A mask of one run of keys per query, given by bounds within the query's own request."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        """Return the first visible key and the one past the last, counted from the request's first key.

        ``left``, shape (queries,), is the number of the request's queries that follow each query.
        """
        return 0, one.keys - left

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        if case.requests is None:
            return super().visible(case)
        shown = np.zeros((case.seqlen_q, case.seqlen_kv), bool)
        keys, row, column = np.arange(case.seqlen_kv), 0, 0
        for one in each(case):
            low, high = self.bounds(one, np.arange(one.queries - 1, -1, -1))
            own = keys - column
            of_queries = (own >= np.reshape(low, (-1, 1))) & (own < np.reshape(high, (-1, 1)))
            shown[row : row + one.queries] = of_queries
            row, column = row + one.queries, column + one.keys
        return shown[None, None]


class RequestsTopLeft(_OfRequests):
    """The diagonal of each request starts at its first key, as if none were cached."""

    copies = "Dao-AILab/flash-attention before 2.1, whose causal mask was aligned to the top left corner"

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return 0, one.queries - left


class RequestsNotCausal(_OfRequests):
    """New tokens of a request see those behind them."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return 0, np.full_like(left, one.keys)


class RequestsSeeTheNextFirstKey(_OfRequests):
    """The last query of a request sees the first key of the next one."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return 0, one.keys - left + (left == 0)


class RequestsSeeThePreviousLastKey(_OfRequests):
    """A request begins one key early, at the last key of the one before."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return -1, one.keys - left


class RequestsOneKeyShort(_OfRequests):
    """A query does not see its own key: the lengths of keys are those before the step."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return 0, one.keys - left - 1


class RequestsWithoutTheirCache(_OfRequests):
    """Only the new tokens of a request are seen, not those that are cached."""

    def bounds(self, one: Requests, left: NDArray[np.int64]) -> Bounds:
        return one.keys - one.queries, one.keys - left


class RequestsSeeEachOther(OtherMask):
    """The pack is one sequence, causal from its bottom right corner."""

    def changed(self, case: Case) -> Case:
        if case.requests is None:
            return case
        return dataclasses.replace(case, mask="causal", requests=None, alignment="bottom_right")


class RequestsByLengthsOfQueries(OtherMask):
    """The boundaries among keys are taken from the lengths of the queries."""

    def changed(self, case: Case) -> Case:
        if case.requests is None:
            return case
        all_of_them = each(case)
        lengths = [one.queries for one in all_of_them]
        lengths[-1] += case.seqlen_kv - case.seqlen_q
        moved = [one._replace(keys=keys) for one, keys in zip(all_of_them, lengths, strict=True)]
        return dataclasses.replace(case, requests=written(tuple(moved)))


class RequestsOneKeyLate(OtherMask):
    """The keys of a request end one key late, and those of the next begin so."""

    def changed(self, case: Case) -> Case:
        late = None if case.requests is None else one_key_late(case)
        return case if late is None else dataclasses.replace(case, requests=late)


class RequestsOfEqualLengths(OtherMask):
    """The keys are taken to be dealt out evenly among the requests."""

    def changed(self, case: Case) -> Case:
        if case.requests is None:
            return case
        all_of_them = each(case)
        even, rest = divmod(case.seqlen_kv, len(all_of_them))
        dealt = [one._replace(keys=even + (n < rest)) for n, one in enumerate(all_of_them)]
        if any(one.keys < one.queries for one in dealt):
            return case
        return dataclasses.replace(case, requests=written(tuple(dealt)))


class RequestsInReverse(Steps):
    """The keys of the requests are looked for in the opposite order."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.requests is None or visible is None:
            return visible
        shown, row = np.zeros_like(visible), 0
        all_of_them = each(case)
        starts = np.cumsum([0, *(one.keys for one in all_of_them[::-1])])[:-1][::-1]
        for one, start in zip(all_of_them, starts.tolist(), strict=True):
            for query in range(one.queries):
                shown[..., row + query, start : start + one.keys - one.queries + query + 1] = True
            row += one.queries
        return shown
