"""Unified sequence parallelism: Ulysses within pairs of ranks, a ring across the pairs.

Fang and Zhao, "USP: A Unified Sequence Parallelism Approach for Long Context Generative AI" (2024). The ranks form a
mesh: those of a pair exchange tokens for heads, so that each holds the tokens of both and half of the heads; then each
runs ring attention with the ranks of its column. The ring has half as many hops, and a pair needs only two heads.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from attnbench import attention

from .blocks import SUPPORTED, too_short
from .ring import Plan as RingPlan
from .ring import Ring, hops, ring, ring_backward
from .ring import tokens as tokens_of_ring
from .ulysses import exchanged, exchanges, heads_of, too_few_heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attnbench import Case, Operands, Sends


@attention("usp/torch", **SUPPORTED)
def usp(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """USP: all-to-all within pairs of ranks, ring attention across them, all-to-all back."""
    q, k, v = plan.of_q.to_heads(q), plan.of_kv.to_heads(k), plan.of_kv.to_heads(v)
    if plan.order is not None:
        k, v = k[:, plan.order], v[:, plan.order]
    out: Tensor = differentiable_ring().apply(q, k, v, case, plan.around)
    return plan.of_q.to_tokens(out)


@functools.cache
def differentiable_ring() -> Any:
    """Return the ring as a function of torch's autograd."""
    import torch

    class RingFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: RingPlan) -> Tensor:
            out: Tensor
            out, lse = ring(q, k, v, case, plan)
            ctx.save_for_backward(q, k, v, out, lse)
            ctx.case, ctx.plan = case, plan
            return out

        @staticmethod
        def backward(ctx: Any, dout: Tensor) -> Any:
            return *ring_backward(dout, *ctx.saved_tensors, ctx.case, ctx.plan), None, None

    return RingFunction


def pair_of(ranks: int) -> int:
    """Return the number of ranks that exchange heads: 2 if ``ranks`` is even, else 1."""
    return math.gcd(ranks, 2)


@functools.cache
def mesh(rank: int, ranks: int) -> tuple[Any, Any]:
    """Return the process groups of this rank's pair and column; all ranks create all groups, in the same order."""
    import torch.distributed as dist

    pair = pair_of(ranks)
    rows = [dist.new_group(list(range(start, start + pair))) for start in range(0, ranks, pair)]
    columns = [dist.new_group(list(range(place, ranks, pair))) for place in range(pair)]
    return rows[rank // pair], columns[rank % pair]


class Plan:
    """The heads of each rank in its Ulysses group, and the blocks of its ring."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch.distributed as dist

        rank, ranks = dist.get_rank(), dist.get_world_size()
        pair, (row, column) = pair_of(ranks), mesh(rank, ranks)
        lengths = lengths_of(case, rank // pair, ranks)
        self.of_q, self.of_kv = exchanges(case, rank % pair, lengths, row)
        self.order = heads_of(case, rank % pair, pair)[2]
        self.around = RingPlan(case, Ring(rank // pair, ranks // pair, column))


def lengths_of(case: Case, row: int, ranks: int) -> tuple[list[int], list[int]]:
    """Return the number of queries, and of keys, on each rank of a pair."""
    pair = pair_of(ranks)
    queries, keys = (
        [len(tokens(case, seqlen, row * pair + place, ranks)) for place in range(pair)]
        for seqlen in (case.seqlen_q, case.seqlen_kv)
    )
    return queries, keys


usp.prepare(Plan)


@usp.tokens
def tokens(case: Case, seqlen: int, rank: int, ranks: int) -> Sequence[int]:
    """Return this rank's part of the tokens that its pair holds in the ring."""
    pair = pair_of(ranks)
    of_pair = tokens_of_ring(case, seqlen, rank // pair, ranks // pair)
    place = rank % pair
    return of_pair[place * len(of_pair) // pair : (place + 1) * len(of_pair) // pair]


@usp.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the ranks cannot share the case, or ``None``: pairs share heads, and each rank needs tokens."""
    import torch.distributed as dist

    ranks = dist.get_world_size()
    return too_few_heads(case, pair_of(ranks)) or too_short(case, 2, ranks)


@usp.sends
def sends(case: Case, ranks: int) -> list[Sends]:
    """Return the messages: the all-to-alls of all pairs, and the rings of all columns."""
    pair = pair_of(ranks)
    rows = [exchanges(case, 0, lengths_of(case, row, ranks)) for row in range(ranks // pair)]
    heads = [heads_of(case, place, pair) for place in range(pair)]
    around = sum(len(of_queries if order else of_keys) for of_queries, of_keys, order in heads)
    return [*exchanged(case, rows), *hops(case, ranks // pair, around)]
