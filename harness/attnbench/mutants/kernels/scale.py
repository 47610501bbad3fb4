"""Mistakes in the scale, in the soft cap, and in the order in which scores are modified."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.mutants.steps import Explicit, Plan, Steps

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


class CapAboveBias(Steps):
    """The bias is added first, and capped with the score."""

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        return self.capped(scores if plan.bias is None else scores + plan.bias.to(scores.dtype), case)


class CapAboveMask(Steps):
    """Scores are masked and then capped, so that a hidden key has the lowest score that the cap leaves."""

    copies = "onnx/onnx, operator Attention-23: softcap after the mask"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        self._case = case
        return super().forward(q, k, v, case, plan)

    def masked(self, scores: Tensor, plan: Plan) -> Tensor:
        cap = self._case.softcap
        hidden = super().masked(scores, plan)
        return hidden if cap is None else hidden.clamp_min(-cap)


class BiasScaled(Steps):
    """The bias is added to the raw scores, and scaled with them."""

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        capped = self.capped(scores, case)
        return capped if plan.bias is None else capped + plan.bias.to(scores.dtype) * case.scale


class SlopeOfBiasedScore(Explicit):
    """The backward pass takes the cap's slope from the score with its bias."""

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        self._scores = self.modified(linear, case, plan)
        return super().weights(linear, lse, case, plan)

    def slope(self, linear: Tensor, case: Case) -> Tensor | float:
        return 1.0 if case.softcap is None else 1 - (self._scores.clamp_min(-1e4) / case.softcap).square()


class LastModOnly(Steps):
    """A cap beside a bias is left out."""

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return super().capped(scores, case) if len(case.score_mods) == 1 else scores
