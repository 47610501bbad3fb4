"""Mistakes in dequantising K and V."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import TILE, Plan, Steps, wide

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class _WrongScales(Steps):
    """Other scales are taken for the rows of K and V. Their shape is (batch, heads_kv, seqlen_kv)."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        """Return the scales taken for K."""
        return k_scale

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        """Return the scales taken for V."""
        return v_scale

    def dequantised(self, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        k_scale, v_scale = plan.operands.k_scale, plan.operands.v_scale
        if k_scale is None or v_scale is None:
            return k, v
        other_k, other_v = self.of_keys(k_scale, v_scale), self.of_values(k_scale, v_scale)
        return wide(k) * other_k[..., None], wide(v) * other_v[..., None]


class KeyScaleOfNeighbour(_WrongScales):
    """Each key has the scale of the one before."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return k_scale.roll(1, -1)


class ValueScaleOfNeighbour(_WrongScales):
    """Each value has the scale of the one before."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale.roll(1, -1)


class KeyScaleForValues(_WrongScales):
    """Values have the scales of keys."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return k_scale


class ValueScaleForKeys(_WrongScales):
    """Keys have the scales of values."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale


class ScaleOfFirstHead(_WrongScales):
    """All heads have the scales of the first one."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale[:, :1].expand_as(v_scale)


class ScaleOfFirstSequence(_WrongScales):
    """All elements of a batch have the scales of the first one."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return k_scale[:1].expand_as(k_scale)


class OneScaleForAHead(_WrongScales):
    """A head has one scale, the largest of its rows."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale.amax(-1, keepdim=True).expand_as(v_scale)


class ScaleOfSixteen(_WrongScales):
    """Sixteen keys have the scale of their first one."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return k_scale[..., ::16].repeat_interleave(16, -1)[..., : k_scale.shape[-1]]


class ScaleOfTheTailLate(_WrongScales):
    """Values behind the last full tile of 64 have the scales of the tile before."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        import torch

        tail = v_scale.shape[-1] % TILE
        whole = v_scale.shape[-1] - tail
        if whole == 0 or tail == 0:
            return v_scale
        return torch.cat([v_scale[..., :whole], v_scale[..., whole - TILE : whole - TILE + tail]], -1)


class ScaleOver128(_WrongScales):
    """Scales are those of numbers up to 128, which makes values 0.8 percent smaller."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale * (127 / 128)


class ScaleInBfloat16(_WrongScales):
    """Scales are rounded to bfloat16."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale.bfloat16().float()


class ValueScaleMissing(_WrongScales):
    """Values are the stored numbers, without their scales."""

    def of_values(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return v_scale * 0 + 1


class ZeroPointOffByOne(Steps):
    """The zero of what is stored is taken for -1."""

    def dequantised(self, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        is_stored = plan.operands.v_scale is not None
        return super().dequantised(k, wide(v) + 1 if is_stored else v, plan)


class StoredReadUnsigned(Steps):
    """Negative stored keys are read as unsigned numbers."""

    def dequantised(self, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        is_stored = plan.operands.k_scale is not None
        return super().dequantised(wide(k) % 256 if is_stored else k, v, plan)


class ScaleOfGroupByModulo(Steps):
    """Query head h takes the keys of its group, and the scales of key head h modulo heads_kv."""

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        if (scale := plan.operands.k_scale) is not None:
            group = case.heads_q // case.heads_kv
            scores = scores * (scale.repeat(1, group, 1) / scale.repeat_interleave(group, 1))[:, :, None]
        return super().modified(scores, case, plan)


class KeyScaleBehindTheCap(_WrongScales):
    """Scores are capped before they are multiplied by the scales of keys."""

    def of_keys(self, k_scale: Tensor, v_scale: Tensor) -> Tensor:
        return k_scale * 0 + 1

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        scores = super().modified(scores, case, plan)
        if (scale := plan.operands.k_scale) is not None:
            scores = scores * scale.repeat_interleave(case.heads_q // case.heads_kv, 1)[:, :, None]
        return scores


class SumOfScaledWeights(Steps):
    """A row is divided by the sum of its weights times the scales of values."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        if plan.operands.v_scale is None:
            return out, lse
        scaled, _ = super().forward(q, k, (wide(v) * 0 + 1).to(v.dtype), case, plan)
        return out / scaled, lse


class WeightsInInt8(Steps):
    """Weights are rounded to 127ths, to be multiplied with what is stored."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        if plan.operands.v_scale is None:
            return super().forward(q, k, v, case, plan)
        return _RoundedWeights().forward(q, k, v, case, plan)


class _RoundedWeights(Steps):
    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        top = weights.amax(-1, keepdim=True).clamp(min=1e-30)
        return super().weighted((weights / top * 127).round() / 127 * top, v)
