"""Attention in chunks, in plain torch: exact, with O(sqrt n) extra memory instead of O(n^2).

Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory" (2021), section 3: a chunk of queries of constant size is
combined with chunks of about sqrt(seqlen_kv) keys, one after another. The state is a running maximum, a running sum of
weights and a running weighted sum of values; whenever the maximum grows, the two sums are scaled down accordingly. The
backward pass keeps no weights either: it recomputes those of one pair of chunks at a time from the LSE, once for dQ and
once more for dK and dV, so that no whole gradient is held in a wider dtype than its own.

Besides its results, a call holds a few matrices of ``batch * heads_q * 256 * max(64, sqrt(seqlen_kv))`` numbers.
All computation is in float32, or in float64 for float64 inputs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import (
    MASK_KINDS,
    alibi_slopes,
    attention,
    dense_bias,
    dense_mask,
    is_bidirectional,
    relative_buckets,
    row_runs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case, Operands

QUERY_CHUNK = 256
SMALLEST_KEY_CHUNK = 64


@attention(
    "chunked/torch",
    device=("cpu", "cuda"),
    dtypes=("float64", "float32", "float16", "bfloat16"),
    masks=MASK_KINDS,
    mask_intersections=True,
    modes=("forward", "backward", "forward_backward"),
    score_mods=("none", "softcap", "alibi", "relative_bias", "bias", "sink"),
    score_mod_combinations=True,
    alignments=("top_left", "bottom_right"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    kv_caches=("dense", "latent"),
    empty=True,
    gqa=True,
    unequal_head_dims=True,
    returns_lse=True,
    memory="O(sqrt n)",
    bias_grad=True,
)
def chunked(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Chunks of keys past chunks of queries with a running softmax, after Rabe and Staats, in torch."""
    import torch

    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
    lse = q.new_empty(case.batch, case.heads_q, case.seqlen_q, dtype=plan.wide)
    for rows, seen in plan.query_chunks:
        size = (case.batch, case.heads_q, rows.stop - rows.start)
        # A sink is treated as a key before all others, without a value.
        maximum = plan.sinks.expand(size)
        weight = torch.isfinite(maximum).to(plan.wide)
        total = weight.new_zeros(*size, case.head_dim_v)
        for keys in seen:
            scores = plan.scores(q, k, rows, keys)  # (batch, heads_q, rows, keys)
            # phase: softmax
            highest = torch.maximum(maximum, scores.amax(-1))
            finite = highest.masked_fill(torch.isneginf(highest), 0)  # -inf - -inf would be NaN
            powers = scores.sub_(finite[..., None]).exp_()
            decay = (maximum - finite).exp()
            weight = weight * decay + powers.sum(-1)
            total = total * decay[..., None] + plan.matmul(powers, v[:, :, keys])  # phase: pv
            maximum = highest
        out[:, :, rows] = total / weight.masked_fill(weight == 0, 1)[..., None]
        lse[:, :, rows] = maximum + weight.log()
    return out, lse


@chunked.backward
def chunked_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
) -> tuple[Tensor, ...]:
    """Compute the gradients, one pair of chunks at a time: dQ = scale * dS K, dK = scale * dS^T Q, dV = P^T dO."""
    import torch

    # phase: gradients
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dbias = None if plan.own_bias is None else torch.zeros_like(plan.own_bias)
    for rows, seen in plan.query_chunks:
        dq_rows = torch.zeros_like(q[:, :, rows], dtype=plan.wide)
        for keys in seen:
            _, dcapped, dscores = plan.weights_and_gradients(dout, q, k, v, out, lse, rows, keys)
            if dbias is not None:
                part = dbias[:, :, rows if dbias.shape[2] > 1 else slice(1), keys if dbias.shape[3] > 1 else slice(1)]
                part += dcapped.sum_to_size(part.shape)
            dq_rows += plan.matmul(dscores, k[:, :, keys])
        dq[:, :, rows] = dq_rows.mul_(case.scale)
    for keys in plan.key_chunks:
        dk_keys = torch.zeros_like(k[:, :, keys], dtype=plan.wide)
        dv_keys = torch.zeros_like(v[:, :, keys], dtype=plan.wide)
        for rows, seen in plan.query_chunks:
            if keys not in seen:
                continue
            weights, _, dscores = plan.weights_and_gradients(dout, q, k, v, out, lse, rows, keys)
            # The rows of a group's heads are stacked, so that the product sums over the group.
            dv_keys += plan.stack(weights).mT @ plan.stack(dout[:, :, rows].to(plan.wide))
            dk_keys += plan.stack(dscores).mT @ plan.stack(q[:, :, rows].to(plan.wide))
        dk[:, :, keys] = dk_keys.mul_(case.scale)
        dv[:, :, keys] = dv_keys
    return (dq, dk, dv) if dbias is None else (dq, dk, dv, dbias.to(q.dtype))


class Plan:
    """The chunks, and all that does not depend on Q, K and V: O(seqlen) numbers, except for mask and bias tensors."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch

        self.case = case
        device = operands.q.device
        self.wide = torch.float64 if case.dtype == "float64" else torch.float32
        runs = runs_of_batch(case)
        self.runs = torch.from_numpy(runs).to(device).movedim(2, 0)  # (runs, batch, seqlen_q, 2)
        self.key_index = torch.arange(case.seqlen_kv, device=device)
        self.row_index = torch.arange(case.seqlen_q, device=device)
        bias = bias_by_distance(case, operands)
        self.bias = None if bias is None else bias.to(device, self.wide)
        # Mask and bias tensors are as large as the scores, but they are inputs, which exist before the call.
        written = not {"tensor", "block_sparse"}.isdisjoint(case.mask_kinds)  # rows of many runs
        self.hidden = ~torch.from_numpy(dense_mask(case)).to(device) if written else None
        tensor = None
        if "bias" in case.score_mods:
            tensor = dense_bias(dataclasses.replace(case, score_mod="bias"), None)
        self.tensor_bias = None if tensor is None else torch.from_numpy(tensor).to(device, self.wide)
        self.own_bias = None  # if its gradient is requested
        if operands.bias is not None:
            self.own_bias = operands.bias.to(self.wide)
            self.tensor_bias = self.own_bias.expand(-1, -1, case.seqlen_q, case.seqlen_kv)
        self.sinks = torch.full((case.heads_q, 1), -torch.inf, dtype=self.wide, device=device)
        if operands.sinks is not None:
            self.sinks = operands.sinks[:, None].to(self.wide)
        key_chunk = max(SMALLEST_KEY_CHUNK, math.isqrt(max(0, case.seqlen_kv - 1)) + 1)
        self.key_chunks = list(slices(case.seqlen_kv, key_chunk))
        # Each chunk of queries with the chunks of keys of which it sees some.
        self.query_chunks = [
            (rows, [keys for keys in self.key_chunks if any_visible(runs[:, rows], keys)])
            for rows in slices(case.seqlen_q, QUERY_CHUNK)
        ]

    def scores(self, q: Tensor, k: Tensor, rows: slice, keys: slice) -> Tensor:
        """Return the scores of a pair of chunks, scaled, capped, biased and masked: (batch, heads_q, rows, keys)."""
        return self.masked(self.capped(q, k, rows, keys), rows, keys)

    def capped(self, q: Tensor, k: Tensor, rows: slice, keys: slice) -> Tensor:
        """Return the scores of a pair of chunks, scaled and, if there is a cap, capped."""
        # phase: qk
        queries = q[:, :, rows].to(self.wide) * self.case.scale
        scores = self.matmul(queries, k[:, :, keys].mT)
        # phase: mask
        if self.case.softcap is not None:
            scores = scores.div_(self.case.softcap).tanh_().mul_(self.case.softcap)
        return scores

    def masked(self, scores: Tensor, rows: slice, keys: slice) -> Tensor:
        """Add biases to capped scores, and mask them, in place."""
        import torch

        # phase: mask
        if self.bias is not None:
            distance = self.key_index[keys] - self.row_index[rows, None] + (self.case.seqlen_q - 1)
            scores += self.bias[:, distance]
        if self.tensor_bias is not None:
            scores += self.tensor_bias[:, :, rows, keys]
        if self.hidden is not None:
            scores.masked_fill_(self.hidden[:, :, rows, keys], -torch.inf)
        elif self.case.mask != "none":
            hidden: Any = True
            for run in self.runs:
                low, high = run[:, None, rows, :1], run[:, None, rows, 1:]
                hidden = ((self.key_index[keys] < low) | (self.key_index[keys] >= high)) & hidden
            scores.masked_fill_(hidden, -torch.inf)
        return scores

    def weights_and_gradients(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rows: slice, keys: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return P = exp(S - LSE), P * (dO V^T - rowsum(dO * O)) and, through any cap, dS of a pair of chunks."""
        import torch

        scores = self.capped(q, k, rows, keys)
        cap = self.case.softcap
        slope = None if cap is None else 1 - (scores / cap).square_()
        scores = self.masked(scores, rows, keys)
        finite = lse[:, :, rows].masked_fill(torch.isneginf(lse[:, :, rows]), 0)
        # phase: softmax
        weights = (scores - finite[..., None]).exp_()
        upstream = dout[:, :, rows].to(self.wide)
        delta = (upstream * out[:, :, rows]).sum(-1, keepdim=True)
        dcapped = self.matmul(upstream, v[:, :, keys].mT)  # phase: gradients
        dcapped.sub_(delta).mul_(weights)
        return weights, dcapped, dcapped if slope is None else slope.mul_(dcapped)

    def stack(self, x: Tensor) -> Tensor:
        """Reshape (batch, heads_q, rows, n) to (batch, heads_kv, heads of a group * rows, n)."""
        group = self.case.heads_q // self.case.heads_kv
        return x.reshape(self.case.batch, self.case.heads_kv, group * x.shape[2], x.shape[-1])

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply (batch, heads_q, rows, n) by (batch, heads_kv, n, m), which the heads of a group share."""
        product = self.stack(a) @ b.to(self.wide)
        return product.reshape(self.case.batch, self.case.heads_q, a.shape[2], b.shape[-1])


def slices(length: int, step: int) -> Iterator[slice]:
    """Yield slices of length ``step`` that cover a range; the last one may be shorter."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def runs_of_batch(case: Case) -> NDArray[np.int64]:
    """Return the runs of keys that each row sees, (batch, seqlen_q, runs, 2), padded with empty runs (0, 0)."""
    found = [row_runs(case, b) for b in range(case.batch)]
    filled = np.zeros((case.batch, case.seqlen_q, max((runs.shape[1] for runs in found), default=1), 2), np.int64)
    for element, runs in zip(filled, found, strict=True):
        element[:, : runs.shape[1]] = runs
    return filled


def any_visible(runs: NDArray[np.int64], keys: slice) -> bool:
    """Whether any row, with runs (batch, rows, runs, 2), sees any of the keys."""
    low, high = runs[..., 0], runs[..., 1]
    return bool((np.maximum(low, keys.start) < np.minimum(high, keys.stop)).any())


def bias_by_distance(case: Case, operands: Operands) -> Tensor | None:
    """Return the bias by key index - query index, on which alone it depends: (heads_q, seqlen_q + seqlen_kv - 1)."""
    import torch

    distance = np.arange(1 - case.seqlen_q, case.seqlen_kv) - case.diagonal_offset
    added: list[Tensor] = []
    if "alibi" in case.score_mods:
        added.append(torch.from_numpy(-alibi_slopes(case.heads_q)[:, None] * np.abs(distance)))
    if operands.relative_bias is not None:
        buckets = torch.from_numpy(relative_buckets(distance, bidirectional=is_bidirectional(case)))
        added.append(operands.relative_bias.double().cpu()[:, buckets])
    return torch.stack(added).sum(0) if added else None


chunked.prepare(Plan)
