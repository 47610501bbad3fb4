"""``tree``: draft tokens of speculative decoding, verified in one call.

The last tokens are drafts that branch off the end of the context; a draft sees the context, its ancestors and itself
(Miao et al., "SpecInfer", ASPLOS 2024, section 4.2). Queries before them are causal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.kind import Kind, Parameter, around

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_DRAFTS = 15
_MOST_DRAFTS = 4096
"""The most drafts, as each is compared with all others."""


class Tree(Kind):
    """The whole context and, among the drafts, each one's path from the root."""

    name = "tree"
    parameters = (Parameter(name="tree_parents", form="integers", least=-1),)
    on_diagonal = True
    divisible = False

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the context and the ancestors, neighbouring ones merged into one run."""
        del batch_index
        parents = case.tree_parents or ()
        drafts, context = len(parents), case.seqlen_kv - len(parents)
        seen = np.zeros((drafts, drafts + 1), np.int8)  # the first column is the context
        seen[:, 0] = context > 0
        for draft, parent in enumerate(parents):
            if parent >= 0:
                seen[draft] = seen[parent]
            seen[draft, draft + 1] = 1
        steps = np.diff(seen, axis=1, prepend=0, append=0)
        (rows, first), (_, beyond) = np.nonzero(steps == 1), np.nonzero(steps == -1)
        nth = np.arange(len(rows)) - np.searchsorted(rows, rows)  # of its row's runs
        before = case.seqlen_q - drafts
        runs = np.zeros((case.seqlen_q, nth.max(initial=0) + 1, 2), np.int64)
        runs[:before, 0, 1] = np.maximum(np.arange(before) + 1 + case.seqlen_kv - case.seqlen_q, 0)
        runs[before + rows, nth, 0] = np.where(first == 0, 0, context + first - 1)
        runs[before + rows, nth, 1] = context + beyond - 1
        return runs

    def runs_to_count(self, case: Case) -> int:
        """Return the largest number of runs of a draft: each ancestor that is not right behind its parent adds one."""
        runs: list[int] = []
        for draft, parent in enumerate(case.tree_parents or ()):
            runs.append((runs[parent] if parent >= 0 else 1) + (parent != draft - 1))
        return max(runs, default=1)

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return a binary tree in level order of 15 drafts, or of as many as there are tokens."""
        del batch
        return {"tree_parents": tuple((draft - 1) // 2 for draft in range(min(_DRAFTS, seqlen_q, seqlen_kv)))}

    def problems(self, case: Case) -> list[str]:
        """Check that drafts are the last tokens of both queries and keys, and come after their parents."""
        parents, found = case.tree_parents or (), []
        if len(parents) > _MOST_DRAFTS:
            return [f"tree_parents has {len(parents):,} drafts, more than {_MOST_DRAFTS:,}"]
        if len(parents) > min(case.seqlen_q, case.seqlen_kv):
            longest = f"seqlen_q = {case.seqlen_q} or seqlen_kv = {case.seqlen_kv}"
            found.append(f"tree_parents has {len(parents)} drafts, more than {longest}")
        if case.alignment != "bottom_right" and case.seqlen_q != case.seqlen_kv:
            found.append("mask = 'tree' ends with the keys: unequal lengths need alignment = 'bottom_right'")
        for draft, parent in enumerate(parents):
            if not -1 <= parent < draft:
                found.append(
                    f"tree_parents: {parent} is the parent of draft {draft}; it must be an earlier draft, or -1"
                )
                break
        return found

    def query_edges(self, case: Case) -> list[int]:
        """Return the drafts and the last query before them."""
        first = case.seqlen_q - len(case.tree_parents or ())
        return [*around(first), *range(first, case.seqlen_q)]

    def key_edges(self, case: Case) -> list[int]:
        """Return the drafts and the end of the context."""
        first = case.seqlen_kv - len(case.tree_parents or ())
        return [*around(first), *range(first, case.seqlen_kv)]

    def label(self, case: Case) -> str:
        """Return the kind with the number of drafts."""
        return f"tree of {len(case.tree_parents or ())}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield drafts that see all tokens before them, and drafts that see only themselves and the context."""
        yield "with a causal mask, so that a draft sees all drafts before it", {"mask": "causal"}
        yield "if a draft sees none of its ancestors", {"tree_parents": (-1,) * len(case.tree_parents or ())}
