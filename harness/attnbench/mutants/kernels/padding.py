"""Mistakes in which keys are padding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks import dense_mask
from attnbench.mutants.kernels.masks import OtherMask, other_mask
from attnbench.mutants.steps import Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class PaddingIgnored(OtherMask):
    """Padded keys are seen."""

    def changed(self, case: Case) -> Case:
        return other_mask("key_padding", "none", case)


class PaddingOneBeyond(OtherMask):
    """The first padded key is seen."""

    def changed(self, case: Case) -> Case:
        if case.kv_lengths is None:
            return case
        return dataclasses.replace(case, kv_lengths=tuple(min(n + 1, case.seqlen_kv) for n in case.kv_lengths))


class PaddingOneShort(OtherMask):
    """The last real key is not seen."""

    def changed(self, case: Case) -> Case:
        if case.kv_lengths is None:
            return case
        return dataclasses.replace(case, kv_lengths=tuple(max(n - 1, 0) for n in case.kv_lengths))


class PaddingOfFirstSequence(OtherMask):
    """All sequences of a batch are taken to be as long as the first one."""

    def changed(self, case: Case) -> Case:
        if case.kv_lengths is None:
            return case
        return dataclasses.replace(case, kv_lengths=(case.kv_lengths[0],) * case.batch)


class LeftPaddingOnTheRight(OtherMask):
    """As many keys are hidden at the end as should be at the beginning."""

    def changed(self, case: Case) -> Case:
        if case.kv_starts is None or case.kv_lengths is not None:
            return case
        lengths = tuple(case.seqlen_kv - start for start in case.kv_starts)
        return other_mask("left_padding", "key_padding", case, kv_lengths=lengths)


class PaddingOnTheLeft(OtherMask):
    """As many keys are hidden at the beginning as should be at the end."""

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
        if case.kv_starts is None:
            return case
        return dataclasses.replace(case, kv_starts=tuple(max(start - 1, 0) for start in case.kv_starts))


class LeftPaddingMovesDiagonal(Steps):
    """The diagonal is counted from the first real key, and queries from the first of all."""

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        visible = super().visible(case)
        if case.kv_starts is None or visible is None or "causal" not in case.mask_kinds:
            return visible
        moved = [np.roll(plane, start, axis=-1) for plane, start in zip(visible, case.kv_starts, strict=True)]
        return np.stack(moved) & dense_mask(other_mask("causal", "none", case))


MUTANTS = (
    PaddingIgnored,
    PaddingOneBeyond,
    PaddingOneShort,
    PaddingOfFirstSequence,
    LeftPaddingOnTheRight,
    PaddingOnTheLeft,
    LeftPaddingIgnored,
    LeftPaddingOneBefore,
    LeftPaddingMovesDiagonal,
)
