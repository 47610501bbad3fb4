"""Mistakes of the backward pass alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import Explicit, Plan, row_maximum

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class DqMissing(Explicit):
    """dQ is zero."""

    def gradients(self, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return dq * 0, dk, dv


class DkMissing(Explicit):
    """dK is zero."""

    def gradients(self, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return dq, dk * 0, dv


class DvMissing(Explicit):
    """dV is zero."""

    def gradients(self, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return dq, dk, dv * 0


class DeltaMissing(Explicit):
    """The softmax's own derivative is forgotten: nothing is subtracted from the weights' gradients."""

    def delta(self, dout: Tensor, out: Tensor) -> Tensor:
        return super().delta(dout, out) * 0


class DeltaOfPreviousRow(Explicit):
    """The row sum that is subtracted belongs to the row above."""

    def delta(self, dout: Tensor, out: Tensor) -> Tensor:
        return super().delta(dout, out).roll(1, 2)


class GroupNotSummed(Explicit):
    """dK and dV take the first query head of a group only."""

    def grouped(self, gradient: Tensor, case: Case) -> Tensor:
        b, _, n, d = gradient.shape
        return gradient.reshape(b, case.heads_kv, case.heads_q // case.heads_kv, n, d)[:, :, 0]


class GroupAveraged(Explicit):
    """dK and dV are the mean over the query heads of a group instead of their sum."""

    def grouped(self, gradient: Tensor, case: Case) -> Tensor:
        return super().grouped(gradient, case) / (case.heads_q // case.heads_kv)


class ScaleMissingInDq(Explicit):
    """dQ is not scaled."""

    def scale_of_dq(self, case: Case) -> float:
        return 1.0


class ScaleTwiceInDk(Explicit):
    """dK is scaled twice."""

    def scale_of_dk(self, case: Case) -> float:
        return case.scale * case.scale


class SlopeOfSoftcapMissing(Explicit):
    """The soft cap's derivative is forgotten."""

    def slope(self, linear: Tensor, case: Case) -> float:
        return 1.0


class BiasMissingBackward(Explicit):
    """The backward pass computes the weights again without the bias."""

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        return super().weights(linear, lse, case, Plan(plan.hidden, None, plan.sinks, plan.operands))


class UpdatesLost(Explicit):
    """Contributions of the last tile of 64 queries to dK are lost, as when additions are not atomic."""

    copies = "Dao-AILab/flash-attention#2481"

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        weights = super().weights(linear, lse, case, plan).clone()
        if case.seqlen_q > 64:
            weights[:, :, case.seqlen_q // 64 * 64 :] = 0
        return weights


class DvOfUnnormalisedWeights(Explicit):
    """dV is made of exponentials that were not divided by their sum."""

    def weights_of_dv(self, weights: Tensor) -> Tensor:
        return weights / row_maximum(weights).clamp(min=1e-30)


class GradientsAccumulatedInTheirDtype(Explicit):
    """dK and dV are rounded to the dtype of the inputs after each tile of 256 queries."""

    copies = "pytorch 2.13, FlashAttentionKernel.cpp, cpu_flash_attention_backward"

    def product_over_queries(self, weights: Tensor, other: Tensor, case: Case) -> Tensor:
        import torch

        dtype = getattr(torch, case.output_dtype)
        total = super().product_over_queries(weights[:, :, :256], other[:, :, :256], case)
        for first in range(256, case.seqlen_q, 256):
            tile = slice(first, first + 256)
            more = super().product_over_queries(weights[:, :, tile], other[:, :, tile], case)
            total = (total.to(dtype) + more).to(dtype).to(more.dtype)
        return total


class DoutAssumedContiguous(Explicit):
    """The upstream gradient's memory is read as if it were contiguous."""

    copies = "Dao-AILab/flash-attention#355"

    def backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
    ) -> tuple[Tensor, ...]:
        import torch

        flat = torch.as_strided(dout, (dout.untyped_storage().nbytes() // dout.element_size(),), (1,), 0)
        read = flat[torch.arange(dout.numel()) % flat.numel()].reshape(dout.shape)
        if 0 in dout.stride():  # memory beyond the single number is not the tensor's own
            read = read * (torch.arange(dout.numel()).reshape(dout.shape) == 0)
        return super().backward(read, q, k, v, out, lse, case, plan)


class HiddenLseOverflows(Explicit):
    """Keys that fill up the last tile have the score 0, and exp(0 - LSE) overflows where the LSE is below -88."""

    copies = "pytorch/pytorch#196678"

    def gradients(self, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return dq * self._poison.to(dq.dtype), dk, dv

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        import torch

        overflown = (lse < -88.7) & ~torch.isneginf(lse) & (case.seqlen_kv % 64 != 0)
        self._poison = torch.where(overflown, torch.nan, 1.0)[..., None]
        return super().weights(linear, lse, case, plan)


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
    """The last, partial tile of 64 queries is lost to the gradient of the bias."""

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
