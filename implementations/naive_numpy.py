"""Attention in three steps, in plain NumPy; read this implementation first.

Self-attention relates the positions of one sequence to each other: every token collects what it needs from all others,
however far away they are. Each token has three vectors, all of them learned projections of it:

- a **query**: what this token is looking for,
- a **key**: what it can be found by,
- a **value**: what it has to give.

Then, for each query:

1. **scores** say how well each key matches it: dot products, divided by sqrt(head_dim). Without the division they would
   grow with the number of dimensions and saturate the softmax, where its gradients vanish;
2. **softmax** turns the scores into weights that are positive and sum to one;
3. the **weighted sum** of the values is the output: a representation of the token in its context.

Every query meets every key, so time and memory grow with the square of the sequence length. Reducing that cost is the
reason why the other implementations in this folder exist.

One head learns one way of relating tokens. **Multi-head attention** gives each of several heads its own projections of
the input, lets each attend by itself, puts their outputs side by side and projects them once more (Vaswani et al.,
"Attention Is All You Need", 2017, section 3.2).

Read :func:`attend` first: it is the three steps for one head, and nothing else. :func:`naive` adds batches and heads,
masks and score modifications, and can be compared with all other implementations; :func:`naive_backward` is its
gradient; :func:`multi_head_attention` at the end adds the projections.

Peak memory of a forward call: the matrix of scores, which becomes the matrix of weights in place, has
``batch * heads_q * seqlen_q * seqlen_kv`` elements; all else is the output and a few numbers per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask, key_lengths, request_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case, Operands

    Array = NDArray[Any]


def attend(q: Array, k: Array, v: Array) -> Array:
    """Compute attention of one head: q (seqlen_q, head_dim), k (seqlen_kv, head_dim), v (seqlen_kv, head_dim_v)."""
    scores = q @ k.T / np.sqrt(q.shape[-1])  # (seqlen_q, seqlen_kv): how well each key matches each query
    weights = softmax(scores)  # (seqlen_q, seqlen_kv): each row positive, with sum 1
    out: Array = weights @ v  # (seqlen_q, head_dim_v): for each query the weighted average of all values
    return out


def softmax(scores: Array) -> Array:
    """Softmax along the last axis. Subtracting each row's largest score keeps exp from overflowing, and cancels out."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights: Array = powers / powers.sum(-1, keepdims=True)
    return weights


EVERYTHING: dict[str, Any] = {
    "dtypes": ("float32", "float64"),
    "masks": MASK_KINDS,
    "mask_intersections": True,
    "modes": ("forward", "backward", "forward_backward"),
    "score_mods": ("none", "softcap", "alibi", "relative_bias", "bias", "sink"),
    "score_mod_combinations": True,
    "alignments": ("top_left", "bottom_right"),
    "kv_caches": ("dense", "latent"),
    "empty": True,
    "gqa": True,
    "unequal_head_dims": True,
    "framework": "numpy",
    "memory": "O(n^2)",
}


@attention(
    "naive/numpy",
    **{**EVERYTHING, "kv_caches": ("dense", "paged", "latent")},
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    kv_dtypes=("none", "int8"),
    returns_lse=True,
    bias_grad=True,
    dropout=("cpu",),
)
def naive(q: Array, k: Array, v: Array, case: Case, plan: Plan) -> tuple[Array, Array]:
    """The three steps of attention, in plain NumPy."""
    if plan.block_table is not None:
        k, v = gather(k, plan.block_table, case), gather(v, plan.block_table, case)
    if case.kv_dtype is not None:  # what is stored, times the scale of its row
        k, v = k * plan.k_scale[..., None], v * plan.v_scale[..., None]
    return attend_by_heads(q, k, v, case, plan)


def attend_by_heads(q: Array, k: Array, v: Array, case: Case, plan: Plan) -> tuple[Array, Array]:
    """Return the output (batch, heads_q, seqlen_q, head_dim_v) and the LSE (batch, heads_q, seqlen_q)."""
    if plan.requests:  # packed: one request at a time
        parts = [
            attend_by_heads(q[:, :, one.rows], k[:, :, one.columns], v[:, :, one.columns], one.case, sub)
            for one, sub in plan.requests
        ]
        return np.concatenate([out for out, _ in parts], 2), np.concatenate([lse for _, lse in parts], 2)
    # q (batch, heads_q, seqlen_q, head_dim) · k, v (batch, heads_kv, seqlen_kv, dim)

    # 1. Scores: each query against each key, scaled.
    # phase: qk
    scores = group(q, case) @ k[:, :, None].swapaxes(-1, -2)  # (batch, heads_kv, group, seqlen_q, seqlen_kv)
    scores = ungroup(scores)  # (batch, heads_q, seqlen_q, seqlen_kv)
    # phase: mask
    scores *= case.scale
    plan.modify(scores)

    # 2. Softmax, in the memory of the scores.
    # phase: softmax
    top = row_maximum(scores, plan.sinks)  # (batch, heads_q, seqlen_q, 1)
    scores -= top
    weights = np.exp(scores, out=scores)
    total = weights.sum(-1, keepdims=True)  # (batch, heads_q, seqlen_q, 1)
    if plan.sinks is not None:
        total += np.exp(plan.sinks - top)
    weights /= np.where(total == 0, 1, total)  # a row that sees no key has weights 0

    # Dropout, in training: some weights are dropped, the others are scaled up in return. The LSE does not change.
    if case.dropout is not None:
        generator = np.random.Generator(np.random.SFC64(int(plan.seed[0])))
        plan.kept = generator.random(weights.shape, np.float32) >= case.dropout
        weights = plan.dropped(weights)

    # 3. Weighted sum of the values.
    out = ungroup(group(weights, case) @ v[:, :, None])  # phase: pv  (batch, heads_q, seqlen_q, head_dim_v)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]  # (batch, heads_q, seqlen_q); -inf where nothing is seen
    return out, lse


class Plan:
    """The mask, the bias and the sinks, built once, as they do not depend on Q, K and V."""

    def __init__(self, case: Case, operands: Operands) -> None:
        self.requests = [(one, Plan(one.case, operands)) for one in request_groups(case, one_by_one=True)]
        self.softcap = case.softcap
        self.growth = 1 / (1 - (case.dropout or 0.0))
        masked = case.mask != "none" and not self.requests
        self.hidden = ~dense_mask(case) if masked else None  # (batch or 1, 1, seqlen_q, seqlen_kv)
        dtype = np.dtype(case.dtype)
        table = operands.relative_bias
        bias = dense_bias(case, None if table is None else table.astype(np.float64))
        self.bias = None if bias is None else bias.astype(dtype)  # (batch or 1, heads_q or 1, seqlen_q, seqlen_kv)
        self.block_table = operands.block_table
        self.k_scale, self.v_scale = operands.k_scale, operands.v_scale  # (batch, heads_kv, seqlen_kv)
        self.own_bias = operands.bias  # if its gradient is requested
        self.seed = operands.dropout_seed
        self.kept: Array | None = None  # (batch, heads_q, seqlen_q, seqlen_kv), with dropout
        sinks = operands.sinks
        self.sinks = None if sinks is None else sinks.astype(dtype)[:, None, None]  # (heads_q, 1, 1)

    def dropped(self, x: Array) -> Array:
        """Apply dropout to weights, or to their gradients in the backward pass."""
        return x if self.kept is None else np.where(self.kept, x * self.growth, 0).astype(x.dtype)

    def modify(self, scores: Array) -> None:
        """Cap, bias and mask the scaled scores, in place: (batch, heads_q, seqlen_q, seqlen_kv)."""
        if self.softcap is not None:
            scores /= self.softcap
            np.tanh(scores, out=scores)
            scores *= self.softcap
        for bias in (self.bias, self.own_bias):
            if bias is not None:
                scores += bias
        if self.hidden is not None:
            np.copyto(scores, -np.inf, where=self.hidden)


naive.prepare(Plan)


@naive.kept
def kept(case: Case, plan: Plan) -> Array:
    """Return which weights the last forward pass kept."""
    assert plan.kept is not None
    return plan.kept


def gather(pages: Array, block_table: Array, case: Case) -> Array:
    """Pages (pages, page_size, heads_kv, dim) to (batch, heads_kv, seqlen_kv, dim)."""
    rows = zip(block_table, key_lengths(case), strict=True)
    tokens = [pages[row[: -(-length // pages.shape[1])]].reshape(-1, *pages.shape[2:])[:length] for row, length in rows]
    return np.concatenate([pages[:0, 0], *tokens]).reshape(case.batch, case.seqlen_kv, *pages.shape[2:]).swapaxes(1, 2)


def group(x: Array, case: Case) -> Array:
    """Reshape (batch, heads_q, ...) to (batch, heads_kv, group, ...): the query heads of a group share a key head."""
    return x.reshape(case.batch, case.heads_kv, case.heads_q // case.heads_kv, *x.shape[2:])


def ungroup(x: Array) -> Array:
    """Reshape (batch, heads_kv, group, ...) back to (batch, heads_q, ...)."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def row_maximum(scores: Array, sinks: Array | None) -> Array:
    """Return the largest score of each row, with the sink, (batch, heads_q, seqlen_q, 1); 0 if it sees no key."""
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    if sinks is not None:
        top = np.maximum(top, sinks)
    return np.where(np.isneginf(top), 0, top).astype(scores.dtype)


@naive.backward
def naive_backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, case: Case, plan: Plan
) -> tuple[Array, ...]:
    """Compute the gradients of Q, K and V, using the weights P = exp(S - LSE) and the output O = P V.

    dV = P^T dO;  dP = dO V^T;  dS = P * (dP - rowsum(dO * O));  dQ = scale * dS K;  dK = scale * dS^T Q.
    A bias is added to the scores, so its gradient is dS, summed over the axes along which it is broadcast.
    """
    if plan.requests:
        parts = []
        for one, sub in plan.requests:
            dout_, q_, out_, lse_ = (x[:, :, one.rows] for x in (dout, q, out, lse))
            k_, v_ = (x[:, :, one.columns] for x in (k, v))
            parts.append(naive_backward(dout_, q_, k_, v_, out_, lse_, one.case, sub))
        all_dq, all_dk, all_dv = zip(*parts, strict=True)
        return np.concatenate(all_dq, 2), np.concatenate(all_dk, 2), np.concatenate(all_dv, 2)
    # phase: qk
    scores = ungroup(group(q, case) @ k[:, :, None].swapaxes(-1, -2)) * case.scale
    # phase: mask
    slope = None  # of the cap: 1 - tanh^2
    if case.softcap is not None:
        slope = 1 - np.tanh(scores / case.softcap) ** 2
    plan.modify(scores)
    # phase: softmax
    finite = np.where(np.isneginf(lse), 0, lse)[..., None].astype(q.dtype)
    weights = np.exp(scores - finite)  # (batch, heads_q, seqlen_q, seqlen_kv)

    # phase: gradients
    dropped = group(plan.dropped(weights), case)
    dv = (dropped.swapaxes(-1, -2) @ group(dout, case)).sum(2)  # the heads of a group share V
    dweights = plan.dropped(ungroup(group(dout, case) @ v[:, :, None].swapaxes(-1, -2)))
    # phase: softmax
    dscores = weights * (dweights - (dout * out).sum(-1, keepdims=True))
    dbias = [] if plan.own_bias is None else [sum_to_shape(dscores, plan.own_bias.shape)]
    if slope is not None:
        dscores *= slope
    dscores *= case.scale
    # phase: gradients
    dq = ungroup(group(dscores, case) @ k[:, :, None])
    dk = (group(dscores, case).swapaxes(-1, -2) @ group(q, case)).sum(2)
    return dq, dk, dv, *dbias


def sum_to_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which a tensor of this shape was broadcast."""
    total: Array = x.sum(tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True)
    return total


@attention("naive/numpy-multi-head", **{**EVERYTHING, "modes": ("forward",)}, operators=("multi_head_attention",))
def multi_head_attention(x_q: Array, x_k: Array, x_v: Array, case: Case, plan: tuple[Plan, Operands]) -> Array:
    """Multi-head attention in plain NumPy: project, split into heads, attend, concatenate, project.

    Inputs (batch, seqlen, embed_dim); for self-attention all three are the same sequence.
    """
    core, weights = plan
    # Queries, keys and values: learned projections of the inputs.
    q = split_heads(x_q @ weights.w_q, case.heads_q)  # (batch, heads_q, seqlen_q, head_dim)
    k = split_heads(x_k @ weights.w_k, case.heads_kv)  # (batch, heads_kv, seqlen_kv, head_dim)
    v = split_heads(x_v @ weights.w_v, case.heads_kv)  # (batch, heads_kv, seqlen_kv, head_dim_v)
    # Each head attends by itself, all of them at once.
    out, _ = naive(q, k, v, case, core)  # (batch, heads_q, seqlen_q, head_dim_v)
    # The concatenated outputs of the heads, mixed by one more projection.
    mixed: Array = concatenate_heads(out) @ weights.w_o  # (batch, seqlen_q, embed_dim)
    return mixed


@multi_head_attention.prepare
def with_weights(case: Case, operands: Operands) -> tuple[Plan, Operands]:
    """Return the plan of the core, and the weights of the projections."""
    return Plan(case, operands), operands


def split_heads(x: Array, heads: int) -> Array:
    """Reshape (batch, seqlen, heads * dim) to (batch, heads, seqlen, dim)."""
    batch, seqlen, width = x.shape
    return x.reshape(batch, seqlen, heads, width // heads).swapaxes(1, 2)


def concatenate_heads(x: Array) -> Array:
    """Reshape (batch, heads, seqlen, dim) to (batch, seqlen, heads * dim)."""
    batch, heads, seqlen, dim = x.shape
    return x.swapaxes(1, 2).reshape(batch, seqlen, heads * dim)
