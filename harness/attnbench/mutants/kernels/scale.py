"""Mistakes in the scale and in the soft cap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.mutants.steps import Steps

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class ScaleMissing(Steps):
    """Scores are not scaled."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return q @ k.transpose(-1, -2)


class ScaleTwice(Steps):
    """Queries are scaled, and the scores again."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return (q * case.scale) @ k.transpose(-1, -2) * case.scale


class ScaleByHeadDim(Steps):
    """Scores are divided by head_dim instead of its square root."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return q @ k.transpose(-1, -2) / case.head_dim


class ScaleOfPaddedHeadDim(Steps):
    """The scale is that of head_dim rounded up to a power of two."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return q @ k.transpose(-1, -2) / math.sqrt(2 ** math.ceil(math.log2(case.head_dim)))


class ScaleOfValueDim(Steps):
    """The scale is taken from head_dim_v instead of head_dim."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return q @ k.transpose(-1, -2) / math.sqrt(case.head_dim_v)


class ScaleWithoutLog2(Steps):
    """Weights are powers of two, and the scale does not make up for it."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return super().scores(q, k, case) * math.log(2)


class ScaleBehindSoftcap(Steps):
    """The soft cap bends unscaled scores, and what it gives is scaled."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return super().scores(q, k, case) if case.softcap is None else q @ k.transpose(-1, -2)

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return super().capped(scores, case) * (1 if case.softcap is None else case.scale)


class SoftcapMissing(Steps):
    """The soft cap is ignored."""

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return scores


class SoftcapNotMultiplied(Steps):
    """The soft cap divides, and does not multiply afterwards."""

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return super().capped(scores, case) / (1 if case.softcap is None else case.softcap)


class SoftcapClamps(Steps):
    """The soft cap cuts scores off instead of bending them."""

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return scores if case.softcap is None else scores.clamp(-case.softcap, case.softcap)


MUTANTS = (
    ScaleMissing,
    ScaleTwice,
    ScaleByHeadDim,
    ScaleOfPaddedHeadDim,
    ScaleOfValueDim,
    ScaleWithoutLog2,
    ScaleBehindSoftcap,
    SoftcapMissing,
    SoftcapNotMultiplied,
    SoftcapClamps,
)
