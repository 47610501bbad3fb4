"""Reference attention in overridable steps: on whole matrices, in tiles of keys, or with a hand-written backward pass.

Without overrides all three are correct (tests/mutants/). They compute in float32 or wider, so that a mutant is wrong
because of its mistake and not because of rounding. Shapes: q (batch, heads_q, seqlen_q, head_dim), k and v
(batch, heads_kv, seqlen_kv, dim), scores (batch, heads_q, seqlen_q, seqlen_kv), LSE (batch, heads_q, seqlen_q).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from attnbench.cases.bias import dense_bias
from attnbench.cases.masks import dense_mask
from attnbench.cases.masks.kinds.ragged import key_lengths
from attnbench.cases.masks.table import instead_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.registry.operands import Operands

TILE = 64


@dataclasses.dataclass(frozen=True)
class Plan:
    """Tensors that do not depend on Q, K and V, prepared once per case."""

    hidden: Tensor | None  # (batch or 1, 1, seqlen_q, seqlen_kv)
    bias: Tensor | None  # (batch or 1, heads_q or 1, seqlen_q, seqlen_kv)
    sinks: Tensor | None  # (1, heads_q, 1, 1)
    operands: Operands


class Steps:
    """Attention on whole matrices, with gradients by autograd."""

    copies: ClassVar[str | None] = None
    """The real bug that the mutant copies."""
    modes: ClassVar[tuple[str, ...]] = ("forward", "backward", "forward_backward")
    empty: ClassVar[bool] = True
    """Whether it supports sizes of 0."""
    backward: Callable[..., Any] | None = None

    def prepare(self, case: Case, operands: Operands) -> Plan:
        """Return mask, bias and sinks as tensors."""
        import torch

        visible = self.visible(case)
        table = operands.relative_bias
        bias = self.bias(case, None if table is None else table.double().numpy())
        added = [] if bias is None else [torch.from_numpy(np.ascontiguousarray(bias))]
        added += [] if operands.bias is None else [operands.bias]
        sinks = operands.sinks
        return Plan(
            hidden=None if visible is None else ~torch.from_numpy(np.ascontiguousarray(visible)),
            bias=sum(added[1:], added[0]) if added else None,
            sinks=None if sinks is None else sinks[None, :, None, None],
            operands=operands,
        )

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        """Return the mask, True where a key is visible; ``None`` if nothing is hidden."""
        return None if case.mask == "none" else dense_mask(case)

    def bias(self, case: Case, table: NDArray[np.float64] | None) -> NDArray[np.floating] | None:
        """Return the bias that is added to the scores."""
        return dense_bias(case, table)

    def call(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        """Run the forward pass on keys and values that may be in pages."""
        table = plan.operands.block_table
        if table is not None:
            k, v = (self.gathered(pages, table, case) for pages in (k, v))
        return self.forward(q, k, v, case, plan)

    def gathered(self, pages: Tensor, table: Tensor, case: Case) -> Tensor:
        """Gather pages (pages, page_size, heads_kv, dim) into (batch, heads_kv, seqlen_kv, dim)."""
        import torch

        rows = zip(table, key_lengths(case).tolist(), strict=True)
        tokens = [pages[row[: -(-length // pages.shape[1])]].flatten(0, 1)[:length] for row, length in rows]
        whole = torch.cat([pages[:0].flatten(0, 1), *tokens])
        return whole.view(case.batch, case.seqlen_kv, *pages.shape[2:]).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        """Run all steps, and return the output in the dtype of the inputs, and the LSE."""
        k, v = self.dequantised(*as_wide(q, k, v), plan)
        scores = self.masked(self.modified(self.scores(wide(q), self.keys(wide(k), case), case), case, plan), plan)
        weights, lse = self.softmax(scores, plan.sinks)
        weights = self.dropped(weights, self.drawn(case, plan), case)
        out = self.weighted(weights, self.values(wide(v), case))
        return out.to(q.dtype), lse

    def drawn(self, case: Case, plan: Plan) -> Tensor | None:
        """Return a new dropout mask, True where a weight is kept: (batch, heads_q, seqlen_q, seqlen_kv)."""
        if case.dropout is not None:
            shape = (case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)
            self.kept = self.drawn_from(int(plan.operands.dropout_seed[0]), shape, case.dropout)
        return self.kept

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        """Return a dropout mask, True where a weight is kept."""
        import torch

        return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) >= p

    kept: Tensor | None = None
    """The mask that the last forward pass drew."""

    def told(self, case: Case, plan: Plan) -> Tensor:
        """Return the dropout mask that the implementation reports."""
        assert self.kept is not None
        return self.kept.clone()

    def dropped(self, weights: Tensor, kept: Tensor | None, case: Case) -> Tensor:
        """Return the weights after dropout."""
        return weights if kept is None or case.dropout is None else weights * kept * self.growth(case.dropout)

    def growth(self, p: float) -> float:
        """Return the factor by which kept weights are multiplied."""
        return 1 / (1 - p)

    def dequantised(self, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        """Return K and V times their scales if they are quantised, else unchanged."""
        k_scale, v_scale = plan.operands.k_scale, plan.operands.v_scale
        if k_scale is None:
            return k, v
        like = wide(plan.operands.q[:0])  # float64 for float64 cases
        return (wide(k) * k_scale[..., None]).to(like.dtype), (wide(v) * v_scale[..., None]).to(like.dtype)

    def keys(self, k: Tensor, case: Case) -> Tensor:
        """Expand K to one key head per query head."""
        return k.repeat_interleave(case.heads_q // case.heads_kv, 1)

    def values(self, v: Tensor, case: Case) -> Tensor:
        """Expand V to one value head per query head."""
        return v.repeat_interleave(case.heads_q // case.heads_kv, 1)

    def scores(self, q: Tensor, k: Tensor, case: Case) -> Tensor:
        """Return the scaled scores."""
        return q @ k.transpose(-1, -2) * case.scale

    def modified(self, scores: Tensor, case: Case, plan: Plan) -> Tensor:
        """Apply the soft cap, then add the bias."""
        scores = self.capped(scores, case)
        return scores if plan.bias is None else scores + plan.bias.to(scores.dtype)

    def capped(self, scores: Tensor, case: Case) -> Tensor:
        """Apply the soft cap, if there is one."""
        import torch

        return scores if case.softcap is None else case.softcap * torch.tanh(scores / case.softcap)

    def masked(self, scores: Tensor, plan: Plan) -> Tensor:
        """Set the scores of hidden keys to -inf."""
        import torch

        return scores if plan.hidden is None else scores.masked_fill(plan.hidden, -torch.inf)

    def softmax(self, scores: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weights and LSE; the weights of a row that sees no key are 0."""
        import torch

        top = row_maximum(scores)
        if sinks is not None:
            top = torch.maximum(top, sinks)
        finite = top.masked_fill(torch.isneginf(top), 0)
        exponentials = torch.exp(scores - finite)
        total = exponentials.sum(-1, keepdim=True)
        if sinks is not None:
            total = total + torch.exp(sinks - finite)
        lse = (finite + total.log())[..., 0]
        return exponentials / total.masked_fill(total == 0, 1), lse

    def weighted(self, weights: Tensor, v: Tensor) -> Tensor:
        """Return the weighted sum of the values."""
        return weights @ v


def row_maximum(scores: Tensor) -> Tensor:
    """Return the largest score of each row, (..., seqlen_q, 1); -inf if there are no keys."""
    import torch

    if scores.shape[-1] == 0:
        return scores.new_full((*scores.shape[:-1], 1), -torch.inf)
    return scores.detach().amax(-1, keepdim=True)


class OtherMask(Steps):
    """Attention with the mask of another case."""

    def changed(self, case: Case) -> Case:
        """Return the case whose mask is used instead."""
        raise NotImplementedError

    def visible(self, case: Case) -> NDArray[np.bool_] | None:
        """Return the other case's mask."""
        changed = self.changed(case)
        return None if changed.mask == "none" else dense_mask(changed)


def other_mask(name: str, other: str, case: Case, **fields: Any) -> Case:
    """Return the case with mask kind ``name`` replaced by ``other``; unchanged if its mask has no such kind."""
    if name not in case.mask_kinds:
        return case
    return dataclasses.replace(case, mask=instead_of(case.mask, name, other), **fields)


def with_other(case: Case, field: str, change: Callable[[Any], Any]) -> Case:
    """Return the case with one field changed; unchanged if the field is ``None``."""
    value = getattr(case, field)
    return case if value is None else dataclasses.replace(case, **{field: change(value)})


class Tiled(Steps):
    """Attention over tiles of keys with a running softmax, like a fused kernel."""

    empty = False

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        """Update the largest score, the sum of exponentials and the weighted sum of values tile by tile."""
        import torch

        k, v = self.dequantised(*as_wide(q, k, v), plan)
        wide_q, wide_k, wide_v = wide(q), self.keys(wide(k), case), self.values(wide(v), case)
        scores = self.masked(self.modified(self.scores(wide_q, wide_k, case), case, plan), plan)
        rows = row_maximum(scores)
        top = torch.full_like(rows, -torch.inf) if plan.sinks is None else plan.sinks.to(rows.dtype).expand_as(rows)
        total = torch.zeros_like(rows) if plan.sinks is None else torch.ones_like(rows)
        out = wide_v.new_zeros(*scores.shape[:-1], wide_v.shape[-1])
        kept = self.drawn(case, plan)
        for start, stop in self.tiles(case.seqlen_kv):
            tile = self.tile(scores, start, stop)
            above = self.running_top(top, tile.detach().amax(-1, keepdim=True))
            finite = above.masked_fill(torch.isneginf(above), 0)
            weights = torch.exp(tile - finite)
            factor = self.rescaling(top, finite)
            total = self.accumulated(total * factor + weights.sum(-1, keepdim=True))
            weights = self.dropped(weights, None if kept is None else kept[..., start:stop], case)
            out = self.accumulated_out(
                out * self.out_rescaling(factor) + self.rounded(weights) @ self.tile_of_values(wide_v, start, stop)
            )
            top = above
        finite = top.masked_fill(torch.isneginf(top), 0)
        return (out / total.masked_fill(total == 0, 1)).to(q.dtype), (finite + total.log())[..., 0]

    def tiles(self, seqlen_kv: int) -> list[tuple[int, int]]:
        """Return the first key of each tile and the one past its last."""
        return [(start, min(start + TILE, seqlen_kv)) for start in range(0, seqlen_kv, TILE)]

    def tile(self, scores: Tensor, start: int, stop: int) -> Tensor:
        """Return the scores of a tile."""
        return scores[..., start:stop]

    def tile_of_values(self, v: Tensor, start: int, stop: int) -> Tensor:
        """Return the values of a tile."""
        return v[..., start:stop, :]

    def running_top(self, top: Tensor, of_tile: Tensor) -> Tensor:
        """Return the largest score so far."""
        import torch

        return torch.maximum(top, of_tile)

    def rescaling(self, top: Tensor, finite: Tensor) -> Tensor:
        """Return the factor that rescales the sums so far when the largest score grows."""
        import torch

        return torch.exp(top - finite)

    def out_rescaling(self, factor: Tensor) -> Tensor:
        """Return the factor that rescales the output so far."""
        return factor

    def accumulated(self, total: Tensor) -> Tensor:
        """Return the sum of exponentials as it is stored between tiles."""
        return total

    def accumulated_out(self, out: Tensor) -> Tensor:
        """Return the output as it is stored between tiles."""
        return out

    def rounded(self, weights: Tensor) -> Tensor:
        """Return the weights as they enter the product with the values."""
        return weights


class Explicit(Steps):
    """Attention on whole matrices with a hand-written backward pass (Dao et al. 2022, FlashAttention, algorithm 4)."""

    def backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
    ) -> tuple[Tensor, ...]:
        """Return dQ, dK and dV, and dbias if requested, computed from the output and the LSE."""
        wide_q, wide_k, wide_v, wide_dout = wide(q), self.keys(wide(k), case), self.values(wide(v), case), wide(dout)
        linear = self.scores(wide_q, wide_k, case)
        weights = self.weights(linear, lse, case, plan)
        kept = self.kept_backward(case, plan)
        upstream = self.dropped(wide_dout @ wide_v.transpose(-1, -2), kept, case)
        dscores = weights * (upstream - self.delta(wide_dout, wide(out)))
        dbias = (self.bias_gradient(dscores, linear, case, plan).to(q.dtype),) if case.bias_grad else ()
        dscores = dscores * self.slope(linear, case)
        dq = dscores @ wide_k * self.scale_of_dq(case)
        dk = self.grouped(self.product_over_queries(dscores, wide_q, case) * self.scale_of_dk(case), case)
        of_dv = self.weights_of_dv(self.dropped(weights, kept, case))
        dv = self.product_over_queries(of_dv, wide_dout, case)
        dv = self.grouped(dv, case)
        return (*self.gradients(dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)), *dbias)

    def kept_backward(self, case: Case, plan: Plan) -> Tensor | None:
        """Return the dropout mask that the backward pass applies."""
        return self.kept

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        """Recompute the weights from the LSE."""
        import torch

        scores = self.masked(self.modified(linear, case, plan), plan)
        return torch.exp(scores - lse.masked_fill(torch.isneginf(lse), 0)[..., None].to(scores.dtype))

    def delta(self, dout: Tensor, out: Tensor) -> Tensor:
        """Return the row sum of weights times their gradient, computed as the row sum of dO * O."""
        return (dout * out).sum(-1, keepdim=True)

    def slope(self, linear: Tensor, case: Case) -> Tensor | float:
        """Return the derivative of the soft cap at the scaled scores."""
        import torch

        return 1.0 if case.softcap is None else 1 - torch.tanh(linear / case.softcap).square()

    def scale_of_dq(self, case: Case) -> float:
        """Return the factor of dQ that comes from scaling the scores."""
        return case.scale

    def scale_of_dk(self, case: Case) -> float:
        """Return the factor of dK that comes from scaling the scores."""
        return case.scale

    def grouped(self, gradient: Tensor, case: Case) -> Tensor:
        """Sum a gradient over the query heads that share a key head."""
        b, _, n, d = gradient.shape
        return gradient.reshape(b, case.heads_kv, case.heads_q // case.heads_kv, n, d).sum(2)

    def bias_gradient(self, dscores: Tensor, linear: Tensor, case: Case, plan: Plan) -> Tensor:
        """Sum the gradient of the capped scores over the axes along which the bias is broadcast."""
        return dscores.sum_to_size(plan.operands.bias.shape)

    def product_over_queries(self, weights: Tensor, other: Tensor, case: Case) -> Tensor:
        """Sum the contributions of all queries to each key: (..., seqlen_kv, columns)."""
        return weights.transpose(-1, -2) @ other

    def weights_of_dv(self, weights: Tensor) -> Tensor:
        """Return the weights that dV is computed from."""
        return weights

    def gradients(self, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients as the call returns them."""
        return dq, dk, dv


def as_wide(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return K and V in the dtype of the widened queries: by itself ``wide`` makes one-byte K and V float32."""
    dtype = wide(q).dtype
    return wide(k).to(dtype), wide(v).to(dtype)


def wide(x: Tensor) -> Tensor:
    """Convert to float32, unless the dtype is wider."""
    import torch

    if x.element_size() == 1:  # torch does not promote float8
        return x.float()
    return x.to(torch.promote_types(x.dtype, torch.float32))
