"""Mistakes in the mask."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from attnbench.cases.masks import dense_mask
from attnbench.cases.masks.kinds.block_sparse import misread_blocks
from attnbench.cases.tensors.planes import misread
from attnbench.mutants.steps import Explicit, OtherMask, Plan, Steps, other_mask, with_other

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case


def _diagonal(case: Case, right: int) -> Case:
    """Return the case with its causal diagonal shifted by ``right`` keys."""
    return other_mask("causal", "sliding_window", case, window_left=case.seqlen_kv, window_right=right)


class TopLeftForBottomRight(OtherMask):
    """The diagonal starts in the top left corner whatever was asked for."""

    copies = "pytorch/pytorch#108108"

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, alignment="top_left")


class BottomRightForTopLeft(OtherMask):
    """The diagonal ends in the bottom right corner whatever was asked for."""

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, alignment="bottom_right")


class CausalIgnored(OtherMask):
    """Queries see what comes after them."""

    def changed(self, case: Case) -> Case:
        return other_mask("causal", "none", case)


class CausalIgnoredBackward(Explicit):
    """The backward pass computes the weights again without the mask."""

    copies = "triton-lang/triton#4541"

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        return super().weights(linear, lse, case, dataclasses.replace(plan, hidden=None))


class CausalWithoutDiagonal(OtherMask):
    """A query does not see its own position."""

    def changed(self, case: Case) -> Case:
        return _diagonal(case, -1)


class CausalOneBeyond(OtherMask):
    """A query sees one key beyond its own position."""

    def changed(self, case: Case) -> Case:
        return _diagonal(case, 1)


class CausalByTiles(Steps):
    """The mask is applied to whole tiles of 64 keys, and the tile on the diagonal is let through."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.mask != "causal" or visible is None:
            return visible
        keys = np.arange(case.seqlen_kv)
        diagonal = np.arange(case.seqlen_q)[:, None] + case.diagonal_offset
        return np.broadcast_to(keys // 64 <= diagonal // 64, visible.shape) & (diagonal >= 0)


class WindowLeftWider(OtherMask):
    """The window reaches one key too far to the left."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "window_left", lambda n: n + 1)


class WindowLeftExclusive(OtherMask):
    """The window leaves its leftmost key out."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "window_left", lambda n: n - 1)


class WindowRightWider(OtherMask):
    """The window reaches one key too far to the right."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "window_right", lambda n: n + 1)


class WindowRightExclusive(OtherMask):
    """The window leaves its rightmost key out."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "window_right", lambda n: n - 1)


class WindowMirrored(OtherMask):
    """Left and right of the window are exchanged."""

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, window_left=case.window_right, window_right=case.window_left)


class WindowWithoutRight(OtherMask):
    """The window is closed on the left only."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "window_right", lambda _: case.seqlen_kv)


class PrefixWider(OtherMask):
    """The prefix holds one key too many."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "prefix_len", lambda n: n + 1)


class PrefixNarrower(OtherMask):
    """The prefix holds one key too few."""

    def changed(self, case: Case) -> Case:
        return with_other(case, "prefix_len", lambda n: n - 1)


class PrefixIgnored(OtherMask):
    """A prefix mask is nothing but causal."""

    copies = "meta-pytorch/tritonbench flash_v3, which runs causal for prefix_lm"

    def changed(self, case: Case) -> Case:
        return other_mask("prefix_lm", "causal", case)


class KindsJoined(Steps):
    """A key is seen if either of two kinds of masks shows it, not both."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        if len(case.mask_kinds) == 1:
            return super().visible(case)
        planes = [dense_mask(dataclasses.replace(case, mask=kind)) for kind in case.mask_kinds]
        shown: NDArray[np.bool_] = np.logical_or.reduce(np.broadcast_arrays(*planes))
        return shown


class FirstKindOnly(OtherMask):
    """The second of two kinds of masks is left out."""

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, mask=case.mask_kinds[0])


class SecondKindOnly(OtherMask):
    """The first of two kinds of masks is left out."""

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, mask=case.mask_kinds[-1])


class DocumentsIgnored(OtherMask):
    """Packed documents see each other."""

    def changed(self, case: Case) -> Case:
        return other_mask("document", "causal" if case.document_causal else "none", case)


class DocumentBoundaryLeaks(Steps):
    """A document sees the last token of the document before it."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.document_lengths is None or visible is None:
            return visible
        leaking = visible.copy()
        leaking[..., :-1] |= visible[..., 1:] & ~visible[..., :-1]
        return leaking


class DocumentCausalIgnored(OtherMask):
    """Within a document, queries see what comes after them."""

    def changed(self, case: Case) -> Case:
        return dataclasses.replace(case, document_causal=False)


class _MisreadTensor(OtherMask):
    how: ClassVar[str]

    def changed(self, case: Case) -> Case:
        return with_other(case, "mask_file", lambda file: misread(self.how, file))


class TensorInverted(_MisreadTensor):
    """True in a mask hides a key, as in torch's attn_mask of nn.MultiheadAttention."""

    how = "inverted"


class TensorTransposed(_MisreadTensor):
    """The mask's rows are taken for keys, where there are as many."""

    how = "transposed"

    def changed(self, case: Case) -> Case:
        return super().changed(case) if case.seqlen_q == case.seqlen_kv else case


class TensorOfFirstSequence(_MisreadTensor):
    """All sequences have the mask of the first one."""

    how = "first"


class _MisreadBlocks(OtherMask):
    how: ClassVar[str]

    def changed(self, case: Case) -> Case:
        if self.how == "transposed" and case.seqlen_q != case.seqlen_kv:
            return case
        return with_other(case, "mask_blocks", lambda blocks: misread_blocks(self.how, blocks))


class BlocksOfNeighbour(_MisreadBlocks):
    """Each block of queries has the list of the next one."""

    how = "next"


class BlocksOneBeyond(_MisreadBlocks):
    """Indices of blocks of keys are one too high."""

    how = "one-beyond"


class LastBlockDropped(_MisreadBlocks):
    """The last block of each list is not seen."""

    how = "last-dropped"


class BlocksTransposed(_MisreadBlocks):
    """Lists say which queries see a block of keys, and not the other way round."""

    how = "transposed"


class BlocksSharedByTwo(_MisreadBlocks):
    """Two blocks of queries, one tile of a kernel, have the list of the first."""

    how = "pairs"


class BlocksIgnored(OtherMask):
    """Blocks that are not listed are seen."""

    def changed(self, case: Case) -> Case:
        return other_mask("block_sparse", "none", case)


class BlocksWithoutTail(Steps):
    """A last block of keys that is not whole is not seen."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.mask_block_size is None or visible is None:
            return visible
        whole = case.seqlen_kv // case.mask_block_size * case.mask_block_size
        return visible & (np.arange(case.seqlen_kv) < whole)


class BlocksSeenWhole(OtherMask):
    """Within a listed block, keys that the causal mask hides are seen."""

    def changed(self, case: Case) -> Case:
        return case if case.mask_blocks is None else other_mask("causal", "none", case)


class MaskOfFirstRow(Steps):
    """All queries of a tile of 64 see what the first of them sees."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        return None if visible is None else visible[:, :, np.arange(case.seqlen_q) // 64 * 64]
