"""Mistakes in the order in which scores are modified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import Explicit, Plan, Steps

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


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
    """Of a cap and a bias only the bias is there."""

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        return super().capped(scores, case) if len(case.score_mods) == 1 else scores


MUTANTS = (CapAboveBias, CapAboveMask, BiasScaled, SlopeOfBiasedScore, LastModOnly)
