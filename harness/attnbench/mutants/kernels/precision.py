"""Numbers kept in too few bits, and the LSE in another form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.mutants.steps import Plan, Steps, Tiled, row_maximum

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


def _bfloat16(x: Tensor) -> Tensor:
    import torch

    return x.to(torch.bfloat16).to(x.dtype)


class SumInBfloat16(Tiled):
    """The sum of exponentials is kept in bfloat16."""

    def accumulated(self, total: Tensor) -> Tensor:
        return _bfloat16(total)


class OutputAccumulatedInBfloat16(Tiled):
    """The output is accumulated in bfloat16, tile by tile."""

    def accumulated_out(self, out: Tensor) -> Tensor:
        return _bfloat16(out)


class WeightsInFloat8(Tiled):
    """Weights are rounded to float8 before they meet the values."""

    def rounded(self, weights: Tensor) -> Tensor:
        import torch

        return weights.to(torch.float8_e4m3fn).to(weights.dtype)


class WeightsInBfloat16(Tiled):
    """Weights are rounded to bfloat16 in a float32 call."""

    def rounded(self, weights: Tensor) -> Tensor:
        return _bfloat16(weights)


class ScoresInBfloat16(Steps):
    """Scores are rounded to bfloat16 in a float32 call."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return _bfloat16(super().scores(q, k, case))


class ScoresStored(Steps):
    """Scores are stored in the dtype of the inputs, which the declaration does not say."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        import torch

        scores = super().scores(q, k, case)
        return scores.to(getattr(torch, case.output_dtype)).to(scores.dtype)


class InputsInTf32(Steps):
    """Queries and keys keep 10 bits of their mantissa in a float32 call, as TF32 does unasked."""

    copies = "evintunador/triton_docs_tutorials#6"

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return super().scores(_tf32(q), _tf32(k), case)


def _tf32(x: Tensor) -> Tensor:
    import torch

    if x.dtype != torch.float32:
        return x
    return ((x.detach().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32) + (x - x.detach())


class SumInFloat16(Steps):
    """Exponentials are summed up without their maximum in float16, which ends at 65,504."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        weights, lse = super().softmax(scores, sinks)
        overflown = scores.detach().exp().sum(-1, keepdim=True).to(torch.float16).isinf()
        return weights.masked_fill(overflown, 0), lse


class ExponentialClamped(Steps):
    """Scores below the maximum by 8 and more are cut off, as a table for exp would."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        floor = row_maximum(scores) - 8
        return super().softmax(torch.where(torch.isneginf(scores), scores, torch.maximum(scores, floor)), sinks)


class EpsilonInDenominator(Steps):
    """A thousandth is added to the sum, lest it be zero."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, lse = super().softmax(scores, sinks)
        return weights / (1 + 1e-3), lse


class LseInBase2(Steps):
    """The LSE is the logarithm to base 2."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, lse = super().softmax(scores, sinks)
        return weights, lse / math.log(2)


class LseWithoutMaximum(Steps):
    """The LSE leaves the maximum out that was subtracted."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, lse = super().softmax(scores, sinks)
        top = row_maximum(scores)[..., 0]
        return weights, lse - top.masked_fill(top.isneginf(), 0)


class LseOfUnscaledScores(Steps):
    """The LSE is that of the scores before they were scaled."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, _ = super().forward(q, k, v, case, plan)
        _, lse = super().forward(q / case.scale, k, v, case, plan)
        return out, lse


class LseOfAllKeys(Steps):
    """The LSE counts hidden keys too."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, _ = super().forward(q, k, v, case, plan)
        _, lse = super().forward(q, k, v, case, Plan(None, plan.bias, plan.sinks, plan.operands))
        return out, lse
