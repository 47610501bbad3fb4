"""Mistakes in which head, batch element, key or column is taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.bias import alibi_slopes, relative_buckets
from attnbench.mutants.steps import Plan, Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case


class GroupByModulo(Steps):
    """Query head h takes key head h modulo heads_kv."""

    def keys(self, k: Tensor, case: Case) -> Tensor:
        return k.repeat(1, case.heads_q // case.heads_kv, 1, 1)

    def values(self, v: Tensor, case: Case) -> Tensor:
        return v.repeat(1, case.heads_q // case.heads_kv, 1, 1)


class GroupByHeadsKv(Steps):
    """Query head h takes key head h // heads_kv, which is right only where the group is as large."""

    copies = "XunhaoLai/native-sparse-attention-triton#27"

    def keys(self, k: Tensor, case: Case) -> Tensor:
        return k[:, [min(h // case.heads_kv, case.heads_kv - 1) for h in range(case.heads_q)]]

    def values(self, v: Tensor, case: Case) -> Tensor:
        return v[:, [min(h // case.heads_kv, case.heads_kv - 1) for h in range(case.heads_q)]]


class FirstKeyHeadForAll(Steps):
    """All query heads take the first key head."""

    def keys(self, k: Tensor, case: Case) -> Tensor:
        return k[:, :1].expand(-1, case.heads_q, -1, -1)


class ValueHeadsShifted(Steps):
    """Values are those of the previous head."""

    def values(self, v: Tensor, case: Case) -> Tensor:
        return super().values(v.roll(1, 1), case)


class HeadsReversed(Steps):
    """The heads of the output stand in reverse order."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return out.flip(1), lse


class KeysOfFirstBatch(Steps):
    """All elements of a batch take the keys of the first one."""

    def keys(self, k: Tensor, case: Case) -> Tensor:
        return super().keys(k[:1].expand_as(k), case)


class BatchReversed(Steps):
    """Values of the last element of a batch are taken for the first."""

    def values(self, v: Tensor, case: Case) -> Tensor:
        return super().values(v.flip(0), case)


class HeadAndTokenSwapped(Steps):
    """The output's heads and tokens are exchanged in memory, and reshaped instead of transposed."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return out.transpose(1, 2).reshape(out.shape), lse


class KeyDropped(Steps):
    """The key in the middle is left out."""

    def prepare(self, case: Case, operands: object) -> Plan:
        import torch

        plan = super().prepare(case, operands)  # type: ignore[arg-type]
        hidden = torch.zeros(1, 1, case.seqlen_q, case.seqlen_kv, dtype=torch.bool)
        hidden[..., case.seqlen_kv // 2 : case.seqlen_kv // 2 + 1] = True
        return Plan(hidden if plan.hidden is None else plan.hidden | hidden, plan.bias, plan.sinks, plan.operands)


class KeyDoubled(Steps):
    """The key in the middle counts twice."""

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        import torch

        twice = torch.zeros(case.seqlen_kv, dtype=scores.dtype)
        twice[case.seqlen_kv // 2 : case.seqlen_kv // 2 + 1] = np.log(2.0)
        return super().modified(scores, case, plan) + twice


class ValuesSwapped(Steps):
    """The values of the first and the last key are exchanged."""

    def values(self, v: Tensor, case: Case) -> Tensor:
        order = [*range(case.seqlen_kv)]
        order[:1], order[-1:] = order[-1:], order[:1]
        return super().values(v[:, :, order], case)


class LastRowZero(Steps):
    """The last query's output is left at zero."""

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        import torch

        out = super().weighted(weights, v)
        return torch.cat([out[..., :-1, :], out[..., -1:, :] * 0], 2)


class TailOfQueriesZero(Steps):
    """Queries behind the last full tile of 64 are left at zero."""

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        import torch

        out = super().weighted(weights, v)
        full = out.shape[2] // 64 * 64
        return torch.cat([out[..., :full, :], out[..., full:, :] * 0], 2)


class FirstDimensionsOnly(Steps):
    """Scores take only the first 64 dimensions."""

    copies = "triton-lang/triton#621"

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return super().scores(q[..., :64], k[..., :64], case)


class FirstColumnsOnly(Steps):
    """Only the first 64 columns of the output are written."""

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        import torch

        out = super().weighted(weights, v)
        return torch.cat([out[..., :64], out[..., 64:] * 0], -1)


class HeadDimTailDropped(Steps):
    """Dimensions behind the last full vector of 16 are left out of the scores."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        whole = max(8, case.head_dim // 16 * 16)
        return super().scores(q[..., :whole], k[..., :whole], case)


class _OtherBias(Steps):
    """The bias, if there is one, is changed."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        """Return the bias that is added instead."""
        raise NotImplementedError

    def bias(self, case: Case, table: NDArray[np.float64] | None) -> NDArray[np.floating] | None:
        bias = super().bias(case, table)
        return None if bias is None else self.changed(bias, case)


class BiasMissing(Steps):
    """The bias is ignored."""

    copies = "meta-pytorch/tritonbench flex eager, which drops score_mod"

    def bias(self, case: Case, table: NDArray[np.float64] | None) -> NDArray[np.floating] | None:
        return None


class BiasOfFirstHead(_OtherBias):
    """All heads have the bias of the first one."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        return np.repeat(bias[:, :1], case.heads_q, 1)


class BiasSignTurned(_OtherBias):
    """Distant keys are favoured."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        return -bias


class BiasBeforeScale(_OtherBias):
    """The bias is added to unscaled scores."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        return bias * case.scale


class BiasTransposed(_OtherBias):
    """The bias of a query and a key is that of the key's place and the query's."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        is_square = case.score_mod == "bias" and case.seqlen_q == case.seqlen_kv
        return bias.swapaxes(-1, -2) if is_square else bias


class BiasOfFirstSequence(_OtherBias):
    """All sequences have the bias of the first one."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        return bias[:1]


class AlibiSlopesShifted(_OtherBias):
    """Each head has the slope of the next one."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        return np.roll(bias, -1, 1) if case.score_mod == "alibi" else bias


class AlibiSlopesOfPowerOfTwo(_OtherBias):
    """For a number of heads that is not a power of two, uses the slopes of the next one."""

    def changed(self, bias: NDArray[np.floating], case: Case) -> NDArray[np.floating]:
        if case.score_mod != "alibi":
            return bias
        whole = alibi_slopes(1 << (case.heads_q - 1).bit_length())[: case.heads_q]
        return bias * (whole / alibi_slopes(case.heads_q))[None, :, None, None]


class RelativeBucketsOneWay(Steps):
    """Keys ahead share the bucket of the query's own position, though queries may look ahead."""

    def bias(self, case: Case, table: NDArray[np.float64] | None) -> NDArray[np.floating] | None:
        if table is None:
            return super().bias(case, table)
        relative = np.arange(case.seqlen_kv) - (np.arange(case.seqlen_q)[:, None] + case.diagonal_offset)
        return table[:, relative_buckets(relative, bidirectional=False)][None]


class LatentTwice(Steps):
    """The up-projection of keys is absorbed twice: what the latent's part adds to scores is doubled."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        scores = super().scores(q, k, case)
        r = case.head_dim_v
        return scores + super().scores(q[..., :r], k[..., :r], case) if case.kv_cache == "latent" else scores


class LatentWithoutRope(Steps):
    """Columns of a latent beyond the values, where positions are rotated in, are left out of scores."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        r = case.head_dim_v if case.kv_cache == "latent" else case.head_dim
        return super().scores(q[..., :r], k[..., :r], case)


class LatentScale(Steps):
    """The scale follows a latent's own width and not that of the heads that it stands for."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        scores = super().scores(q, k, case)
        return scores / (case.scale * math.sqrt(case.head_dim)) if case.kv_cache == "latent" else scores


class LatentLastColumns(Steps):
    """Values are the last columns of a latent, not the first."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        return super().forward(q, k, k[..., -case.head_dim_v :] if case.kv_cache == "latent" else v, case, plan)
