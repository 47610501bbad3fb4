"""``ragged``: packed requests of a serving batch; the queries of each are its last tokens.

Queries and keys are packed separately, so a request has different offsets in Q than in K and V (``cu_seqlens_q`` and
``cu_seqlens_k`` of variable-length kernels). A query sees the keys of its own request up to itself: in each request
the diagonal ends in the bottom right corner, and a sliding window is counted from there.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.kind import Kind, Parameter, one_run
from attnbench.cases.requests import (
    Requests,
    described,
    mistake_in_requests,
    of_each,
    own_keys,
    parse_requests,
    tokens,
    written,
)
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case

_FOLLOW_POSITIONS = frozenset({"alibi", "relative_bias", "bias"})


class Ragged(Kind):
    """Blocks along the packs' diagonal, each causal with the diagonal ending in its bottom right corner."""

    name = "ragged"
    parameters = (Parameter(name="requests", form="requests", mistake=mistake_in_requests),)
    divisible = False
    by_sequence = False

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the keys from the request's first one to the query's own position."""
        del batch_index
        batch = parse_requests(case.requests or "")
        queries, keys = of_each(batch)
        return one_run(case, np.repeat(np.cumsum(keys) - keys, queries), own_keys(batch) + 1)

    def pairs(self, case: Case) -> int:
        """Sum the pairs of the requests."""
        return case.batch * sum(one.pairs for one in parse_requests(case.requests or ""))

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return a prefill of half of the queries, and a request with the other queries and keys.

        Without queries it is a request that does not fit, as each has at least one query.
        """
        del batch
        seqlen_q = max(1, seqlen_q)
        half = seqlen_q // 2 if seqlen_q <= seqlen_kv else 0
        prefill, rest = Requests(1, half, half), Requests(1, seqlen_q - half, max(seqlen_q, seqlen_kv) - half)
        return {"requests": written((prefill, rest) if half else (rest,))}

    def problems(self, case: Case) -> list[str]:
        """Check that the requests make up all queries and keys, and that nothing else assumes one common sequence."""
        text = case.requests or ""
        queries, keys = tokens(parse_requests(text))
        found = []
        if (queries, keys) != (case.seqlen_q, case.seqlen_kv):
            found.append(
                f"requests = {shown(text)} have {queries} queries and {keys} keys, not seqlen_q = {case.seqlen_q} and "
                f"seqlen_kv = {case.seqlen_kv}"
            )
        if case.batch != 1:
            found.append(f"mask = 'ragged' is a batch by itself: batch = {case.batch} must be 1")
        if not {*case.mask_kinds} <= {"sliding_window", "ragged"}:
            found.append(f"mask = {case.mask!r}: of all other kinds, only 'sliding_window' is defined in each request")
        if case.window_right:
            found.append(
                f"window_right = {case.window_right} shows nothing in a ragged batch, where no query sees a later key: "
                "it must be 0"
            )
        if case.kv_cache == "latent":
            found.append("kv_cache = 'latent' holds one sequence, and 'ragged' packs several: dense or paged ones do")
        if not _FOLLOW_POSITIONS.isdisjoint(case.score_mods):
            found.append(
                f"score_mod = {case.score_mod!r} follows positions in one sequence, and 'ragged' packs several"
            )
        return found

    def query_edges(self, case: Case) -> list[int]:
        """Return the last query of each request and the first of the next."""
        ends = np.cumsum([one.queries for one in each(case)]).tolist()
        return [token for end in ends for token in (end - 1, end)]

    def key_edges(self, case: Case) -> list[int]:
        """Return the last key of each request and the first of the next."""
        ends = np.cumsum([one.keys for one in each(case)]).tolist()
        return [token for end in ends for token in (end - 1, end)]

    def label(self, case: Case) -> str:
        """Return the kind with the requests or, if these are long, the number of each class."""
        return f"ragged {described(parse_requests(case.requests or ''))}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield one diagonal for all requests, and a boundary between two of them that is one key late."""
        one_diagonal: dict[str, object] = {"mask": "causal", "requests": None, "alignment": "bottom_right"}
        yield "if requests see each other, below one diagonal", one_diagonal
        if (late := one_key_late(case)) is not None:
            yield "if the keys of a request end one key late", {"requests": late}


def one_key_late(case: Case) -> str | None:
    """Return the requests with the first movable boundary among keys one key late; ``None`` if none can move."""
    all_of_them = each(case)
    for place, (one, following) in enumerate(itertools.pairwise(all_of_them)):
        if following.keys > following.queries:
            all_of_them[place] = one._replace(keys=one.keys + 1)
            all_of_them[place + 1] = following._replace(keys=following.keys - 1)
            return written(tuple(all_of_them))
    return None


def each(case: Case) -> list[Requests]:
    """Return the requests of a case one by one."""
    return [one._replace(number=1) for one in parse_requests(case.requests or "") for _ in range(one.number)]


def key_lengths(case: Case) -> NDArray[np.int64]:
    """Keys of each sequence, padding included: of the requests, or of the elements of a batch."""
    if case.requests is None:
        return np.full(case.batch, case.seqlen_kv, np.int64)
    return of_each(parse_requests(case.requests))[1]


@dataclasses.dataclass(frozen=True)
class RequestGroup:
    """Consecutive equal requests of a pack, viewed as a batch."""

    rows: slice
    """The positions of their queries in the pack."""
    columns: slice
    """Their keys in the pack."""
    places: slice
    """Which of the requests they are: their rows of the table of pages."""
    case: Case
    """Causal, or a window, with the diagonal in the bottom right corner; ``batch`` is how many they are."""

    def queries_of(self, pack: Tensor) -> Tensor:
        """Return their part of a torch tensor (1, heads, all queries, ...) as a view (batch, heads, seqlen_q, ...)."""
        return _as_batch(pack[0, :, self.rows], self.case.batch)

    def keys_of(self, pack: Tensor) -> Tensor:
        """Return their part of a torch tensor (1, heads, all keys, ...) as a view (batch, heads, seqlen_kv, ...)."""
        return _as_batch(pack[0, :, self.columns], self.case.batch)


def request_groups(case: Case, *, one_by_one: bool = False) -> list[RequestGroup]:
    """Return the requests of a ragged case in order, with equal neighbours as one batch.

    Args:
        case: any case; the list is empty if it has no requests.
        one_by_one: return a batch per request instead.
    """
    if case.requests is None:
        return []
    found, row, column, place = [], 0, 0, 0
    for one in each(case) if one_by_one else parse_requests(case.requests or ""):
        rows, columns = slice(row, row + one.number * one.queries), slice(column, column + one.number * one.keys)
        places = slice(place, place + one.number)
        row, column, place = rows.stop, columns.stop, places.stop
        found.append(RequestGroup(rows, columns, places, _alone(case, one)))
    return found


def _as_batch(tokens: Tensor, count: int) -> Tensor:
    return tokens.view(len(tokens), count, -1, *tokens.shape[2:]).transpose(0, 1)


def _alone(case: Case, one: Requests) -> Case:
    windowed = case.window_left is not None
    sees_all = one.queries == 1 and not windowed
    return dataclasses.replace(
        case,
        batch=one.number,
        seqlen_q=one.queries,
        seqlen_kv=one.keys,
        mask="sliding_window" if windowed else "none" if sees_all else "causal",
        alignment="top_left" if sees_all or one.queries == one.keys else "bottom_right",
        requests=None,
        strides="contiguous",
    )
