"""Mistakes in the gradient of a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import Explicit, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class DbiasMissing(Explicit):
    """The gradient of the bias is zero."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        return super().bias_gradient(dscores, linear, case, plan) * 0


class DbiasNotSummed(Explicit):
    """The gradient of the bias is that of the first score it is added to, where it is broadcast."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        rows, columns = (slice(size) for size in plan.operands.bias.shape[2:])
        return dscores[: plan.operands.bias.shape[0], : plan.operands.bias.shape[1], rows, columns]


class DbiasOfOneSequence(Explicit):
    """The gradient of the bias is summed over heads, and over the batch it is the first sequence's."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        of_batch = dscores if plan.operands.bias.shape[0] > 1 else dscores[:1]
        return super().bias_gradient(of_batch, linear, case, plan)


class DbiasOfOneHead(Explicit):
    """The gradient of the bias is summed over the batch, and over the heads that share it it is the last one's."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        of_heads = dscores if plan.operands.bias.shape[1] > 1 else dscores[:, -1:]
        return super().bias_gradient(of_heads, linear, case, plan)


class DbiasAveraged(Explicit):
    """The gradient of the bias is the mean over the axes along which it is broadcast, not the sum."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        total = super().bias_gradient(dscores, linear, case, plan)
        return total * (total.numel() / dscores.numel())


class DbiasScaled(Explicit):
    """The gradient of the bias is scaled as those of queries and keys are."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        return super().bias_gradient(dscores, linear, case, plan) * case.scale


class DbiasThroughTheCap(Explicit):
    """The gradient of the bias is multiplied by the slope of the cap, which the bias is added behind."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        return super().bias_gradient(dscores * self.slope(linear, case), linear, case, plan)


class DbiasOfHiddenPairs(Explicit):
    """The gradient of the bias takes pairs that the mask hides for seen ones."""

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        self._unmasked = super().weights(linear, lse, case, Plan(None, plan.bias, plan.sinks, plan.operands))
        return super().weights(linear, lse, case, plan)

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        leaked = self._unmasked if plan.hidden is None else self._unmasked * plan.hidden
        return super().bias_gradient(dscores + leaked * (plan.hidden is not None), linear, case, plan)


class DbiasOfLastTileLost(Explicit):
    """What the last, partial tile of 64 queries adds to the gradient of the bias is lost."""

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        kept = dscores.clone()
        kept[:, :, max(64, case.seqlen_q // 64 * 64) :] = 0
        return super().bias_gradient(kept, linear, case, plan)


class DbiasKeptFromTheCallBefore(Explicit):
    """The gradient of the bias is added to what the call before has left: nobody sets it to zero."""

    def prepare(self, case: Case, operands: object) -> Plan:
        self._total: Tensor | None = None
        return super().prepare(case, operands)  # type: ignore[arg-type]  # the operands of the base

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        one = super().bias_gradient(dscores, linear, case, plan)
        self._total = one if self._total is None else self._total + one
        return self._total


MUTANTS = (
    DbiasMissing,
    DbiasNotSummed,
    DbiasOfOneSequence,
    DbiasOfOneHead,
    DbiasAveraged,
    DbiasScaled,
    DbiasThroughTheCap,
    DbiasOfHiddenPairs,
    DbiasOfLastTileLost,
    DbiasKeptFromTheCallBefore,
)
