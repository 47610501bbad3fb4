"""Mistakes in tree masks: which drafts a draft sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.mutants.steps import OtherMask, Steps, other_mask, with_other

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class TreeAsCausal(OtherMask):
    """A draft sees all drafts before it, other branches included."""

    def changed(self, case: Case) -> Case:
        return other_mask("tree", "causal", case)


class TreeParentNext(OtherMask):
    """A draft hangs on the one behind its parent, where that comes before the draft."""

    def changed(self, case: Case) -> Case:
        return with_other(
            case, "tree_parents", lambda parents: tuple(min(one + 1, draft - 1) for draft, one in enumerate(parents))
        )


class TreeGrandparent(OtherMask):
    """A draft does not see its parent, but what that sees."""

    def changed(self, case: Case) -> Case:
        return with_other(
            case, "tree_parents", lambda parents: tuple(parents[one] if one >= 0 else -1 for one in parents)
        )


class TreeWithoutAncestors(OtherMask):
    """A draft sees the context and itself, none of the drafts it follows."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "tree_parents", lambda parents: (-1,) * len(parents))


class TreeWithoutItself(Steps):
    """A draft sees its ancestors and not itself."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.tree_parents is None or visible is None:
            return visible
        blind = np.broadcast_to(visible, (*visible.shape[:2], case.seqlen_q, case.seqlen_kv)).copy()
        drafts = np.arange(1, len(case.tree_parents) + 1)
        blind[:, :, -drafts, -drafts] = False
        return blind


class TreeSeesChildren(Steps):
    """A draft sees those that follow it, not those it follows."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.tree_parents is None or visible is None:
            return visible
        drafts, turned = len(case.tree_parents), visible.copy()
        turned[..., -drafts:, -drafts:] = visible[..., -drafts:, -drafts:].swapaxes(-1, -2)
        return turned
