"""Mistakes in the softmax, and in combining its tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import TILE, Plan, Steps, Tiled, row_maximum, wide

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class MeanOfV(Steps):
    """Queries and keys are ignored: the output is the mean of all values."""

    copies = "accepted by several published tolerances (ScalingIntelligence/KernelBench#165)"

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        return v.mean(2, keepdim=True).expand(*weights.shape[:-1], -1) + 0 * (weights @ v)


class MeanOfVisibleV(Steps):
    """All visible keys weigh the same."""

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        return super().scores(q, k, case) * 0


class Zeros(Steps):
    """The output is zero."""

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        return weights @ v * 0


class SoftmaxWithoutMax(Steps):
    """Exponentials of the scores themselves are taken, which overflow."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        exponentials = torch.exp(scores)
        total = exponentials.sum(-1, keepdim=True) + (0 if sinks is None else torch.exp(sinks))
        return exponentials / total.masked_fill(total == 0, 1), total.log()[..., 0]


class SoftmaxNotNormalised(Steps):
    """Weights are not divided by their sum."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, lse = super().softmax(scores, sinks)
        return weights * scores.detach().exp().sum(-1, keepdim=True).clamp(max=1e4), lse


class SumOfNextRow(Steps):
    """A row is divided by the sum of the row below it."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, lse = super().softmax(scores, sinks)
        size = (scores - row_maximum(scores).clamp(min=-1e30)).exp().sum(-1, keepdim=True)
        return weights * size / size.roll(-1, 2).clamp(min=1e-30), lse


class SinkMissing(Steps):
    """The sink takes no part in the softmax."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().softmax(scores, None)


class SinkMissingInLse(Steps):
    """The LSE leaves the sink out."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().softmax(scores, sinks)[0], super().softmax(scores, None)[1]


class SinkOfFirstHead(Steps):
    """All heads have the sink of the first one."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().softmax(scores, None if sinks is None else sinks[:, :1].expand_as(sinks))


class EmptyRowIsNan(Steps):
    """A row that sees nothing is 0/0."""

    copies = "pytorch/pytorch#103963"

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        weights, lse = super().softmax(scores, sinks)
        return weights.masked_fill(torch.isneginf(lse)[..., None], torch.nan), lse


class EmptyRowIsMean(Steps):
    """A row that sees nothing is the mean of all values, as when hidden scores are large negative numbers."""

    copies = "pytorch/pytorch#109517"

    def masked(self, scores: Tensor, plan: Plan) -> Tensor:
        return scores if plan.hidden is None else scores.masked_fill(plan.hidden, -1e30)


class EmptyRowHasLseZero(Steps):
    """The LSE of a row that sees nothing is 0."""

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        weights, lse = super().softmax(scores, sinks)
        return weights, lse.masked_fill(torch.isneginf(lse), 0)


class AccumulatorNotRescaled(Tiled):
    """When the maximum grows, the output so far is not rescaled."""

    def out_rescaling(self, factor: Tensor) -> Tensor:
        return factor * 0 + 1


class SumNotRescaled(Tiled):
    """When the maximum grows, neither sum so far is rescaled."""

    def rescaling(self, top: Tensor, finite: Tensor) -> Tensor:
        return (top - finite).clamp(min=-1e30) * 0 + 1


class MaximumOfThisTile(Tiled):
    """The maximum is that of the tile alone, and what is kept was relative to another."""

    def running_top(self, top: Tensor, of_tile: Tensor) -> Tensor:
        return of_tile

    def rescaling(self, top: Tensor, finite: Tensor) -> Tensor:
        return super().rescaling(top, finite).clamp(max=1)


class MaximumOfFirstTile(Tiled):
    """Only the first tile's maximum is subtracted, so that larger scores behind it overflow."""

    def running_top(self, top: Tensor, of_tile: Tensor) -> Tensor:
        import torch

        return torch.where(torch.isneginf(top), of_tile, top)


class LastTileDropped(Tiled):
    """A last tile that is not full is left out."""

    def tiles(self, seqlen_kv: int) -> list[tuple[int, int]]:
        tiles = super().tiles(seqlen_kv)
        return tiles[:-1] if seqlen_kv % TILE and len(tiles) > 1 else tiles


class FirstTileTwice(Tiled):
    """The first tile is counted twice."""

    def tiles(self, seqlen_kv: int) -> list[tuple[int, int]]:
        tiles = super().tiles(seqlen_kv)
        return [tiles[0], *tiles]


class TailNotMasked(Tiled):
    """Keys that fill up the last tile have the score 0 and take part in the softmax."""

    copies = "NVIDIA/cudnn-frontend#628"

    def tile(self, scores: Tensor, start: int, stop: int) -> Tensor:
        import torch

        missing = TILE - (stop - start)
        return torch.nn.functional.pad(scores[..., start:stop], (0, missing))

    def tile_of_values(self, v: Tensor, start: int, stop: int) -> Tensor:
        import torch

        return torch.nn.functional.pad(v[..., start:stop, :], (0, 0, 0, TILE - (stop - start)))


class SplitsAveraged(Tiled):
    """Two halves of the keys are averaged instead of merged through their LSE."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        half = case.seqlen_kv // 2
        if not half or plan.sinks is not None:
            return out, lse
        scores = self.masked(self.modified(self.scores(wide(q), self.keys(wide(k), case), case), case, plan), plan)
        values = self.values(wide(v), case)
        parts = [
            self.softmax(scores[..., part], None)[0] @ values[..., part, :] for part in (slice(half), slice(half, None))
        ]
        return ((parts[0] + parts[1]) / 2).to(q.dtype), lse
