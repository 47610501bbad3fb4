"""Mistakes in pages of keys, and in windows of packed requests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks import dense_mask
from attnbench.cases.masks.kinds.ragged import key_lengths
from attnbench.cases.requests import of_each, own_keys, parse_requests
from attnbench.mutants.steps import Plan, Steps, other_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case


class PagesOfTheNeighbour(Steps):
    """A sequence reads the pages of the one before: the row of the page table is off by one."""

    def gathered(self, pages: Tensor, table: Tensor, case: Case) -> Tensor:
        return super().gathered(pages, table.roll(1, 0), case)


class LastPageInFull(Steps):
    """The rest of a request's last page counts as keys: it is loaded as zeros, and not masked."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        import torch

        if case.page_size is None or case.requests is None or plan.hidden is None:
            return super().forward(q, k, v, case, plan)
        rest = -key_lengths(case) % case.page_size
        queries, _ = of_each(parse_requests(case.requests))
        request = np.arange(len(rest))
        foreign = request.repeat(queries)[:, None] != request.repeat(rest)
        hidden = torch.cat([plan.hidden, torch.from_numpy(foreign)[None, None]], -1)
        k, v = (torch.cat([x, x.new_zeros(1, x.shape[1], int(rest.sum()), x.shape[3])], 2) for x in (k, v))
        return super().forward(q, k, v, case, dataclasses.replace(plan, hidden=hidden))


class LastPageLeftOut(Steps):
    """A last page that is not full is not read: the number of pages is rounded down."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.page_size is None:
            return visible
        lengths = key_lengths(case)
        full = lengths // case.page_size * case.page_size
        read = np.concatenate([np.arange(length) < end for length, end in zip(lengths, full, strict=True)])
        planes = read.reshape(case.batch, 1, 1, case.seqlen_kv).repeat(case.seqlen_q, axis=2)
        return planes if visible is None else planes & visible


class _WindowOfRequests(Steps):
    """The first key that each query of a ragged batch sees is another."""

    def first(self, case: Case) -> NDArray[np.int64]:
        """Return the first key in the window of each query, as an index among all keys."""
        raise NotImplementedError

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        if case.requests is None or case.window_left is None:
            return super().visible(case)
        whole = dense_mask(other_mask("sliding_window", "none", case))
        return whole & (np.arange(case.seqlen_kv) >= self.first(case)[:, None])


class WindowFromPackStart(_WindowOfRequests):
    """The window is counted from a query's place among all queries, not among its keys."""

    def first(self, case: Case) -> NDArray[np.int64]:
        return np.arange(case.seqlen_q) - (case.window_left or 0)


class WindowFromRequestStart(_WindowOfRequests):
    """The window is counted as if a request had no tokens cached."""

    def first(self, case: Case) -> NDArray[np.int64]:
        batch = parse_requests(case.requests or "")
        queries, keys = of_each(batch)
        return own_keys(batch) - (keys - queries).repeat(queries) - (case.window_left or 0)


class WindowIntoPreviousRequest(Steps):
    """A window that is wider than what a request has reaches into the one before."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        if case.requests is None or case.window_left is None:
            return super().visible(case)
        last = own_keys(parse_requests(case.requests))[:, None]
        keys = np.arange(case.seqlen_kv)
        return ((keys <= last) & (keys >= last - case.window_left))[None, None]
