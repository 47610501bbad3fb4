"""Ulysses: tokens are exchanged for heads, each rank attends over whole sequences of its heads, and back.

Jacobs et al., "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long Sequence Transformer
Models" (2023). There is one all-to-all for each of q, k, v and the output, whatever the mask. A rank needs at least one
query head. If there are fewer key heads than ranks, several ranks receive the same one.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from attnbench import Sends, attention, dense_mask

from .blocks import ITEM_BYTES, SUPPORTED, chunk, too_short

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention("ulysses/torch", **SUPPORTED)
def ulysses(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """Ulysses: all-to-all from tokens to heads, torch's CPU kernel over whole sequences, all-to-all back."""
    from torch.nn import functional

    q, k, v = plan.of_q.to_heads(q), plan.of_kv.to_heads(k), plan.of_kv.to_heads(v)
    if plan.order is not None:
        k, v = k[:, plan.order], v[:, plan.order]
    grouped = q.shape[1] != k.shape[1]
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=plan.mask, is_causal=plan.is_causal, scale=case.scale, enable_gqa=grouped
    )
    return plan.of_q.to_tokens(out)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """The exchange between tokens and heads: ranks of a group hold some tokens of all heads, or all tokens of some."""

    rank: int
    heads: list[range]
    """The heads that each rank needs; several ranks may need the same key head."""
    lengths: list[int]
    """Number of tokens that each rank holds."""
    group: Any = None
    """The process group; ``None`` is the default one."""

    def to_heads(self, x: Tensor) -> Tensor:
        """Exchange (batch, all heads, this rank's tokens, dim) for (batch, this rank's heads, all tokens, dim)."""
        import torch

        batch, _, _, dim = x.shape
        mine = len(self.heads[self.rank])
        sent = [x[:, heads.start : heads.stop].flatten() for heads in self.heads]
        received = self._all_to_all(sent, [batch * mine * length * dim for length in self.lengths])
        shapes = [(batch, mine, length, dim) for length in self.lengths]
        return torch.cat([part.view(shape) for part, shape in zip(received, shapes, strict=True)], 2)

    def to_tokens(self, x: Tensor) -> Tensor:
        """Exchange back, for heads that are each on one rank only."""
        import torch

        batch, _, _, dim = x.shape
        sent = [part.flatten() for part in torch.split(x, self.lengths, 2)]
        shapes = [(batch, len(heads), self.lengths[self.rank], dim) for heads in self.heads]
        received = self._all_to_all(sent, [math.prod(shape) for shape in shapes])
        return torch.cat([part.view(shape) for part, shape in zip(received, shapes, strict=True)], 1)

    def _all_to_all(self, sent: list[Tensor], sizes: list[int]) -> tuple[Tensor, ...]:
        """Send each rank its part; autograd sends the gradients back likewise."""
        import torch
        from torch.distributed.nn.functional import all_to_all_single

        given = torch.cat(sent)
        received: Tensor = all_to_all_single(  # type: ignore[no-untyped-call]  # torch does not annotate it
            given.new_empty(sum(sizes)), given, sizes, [part.numel() for part in sent], self.group
        )
        return torch.split(received, sizes)

    def sent(self) -> int:
        """Return how many rows of a head all ranks together send to others, in one direction."""
        every = range(len(self.heads))
        return sum(len(self.heads[to]) * self.lengths[rank] for rank in every for to in every if to != rank)


def heads_of(case: Case, rank: int, ranks: int) -> tuple[range, range, list[int] | None]:
    """Return a rank's query heads, and the key heads that these need.

    The third item is the index of each query head's key head among these, unless groups have equal size.
    """
    of_queries = range(rank * case.heads_q // ranks, (rank + 1) * case.heads_q // ranks)
    group = case.heads_q // case.heads_kv
    of_keys = range(of_queries.start // group, (of_queries.stop - 1) // group + 1)
    order = [head // group - of_keys.start for head in of_queries]
    even = len(of_queries) // len(of_keys)
    is_even = order == [place // even for place in range(len(of_queries))]
    return of_queries, of_keys, None if is_even else order


def exchanges(case: Case, rank: int, lengths: tuple[list[int], list[int]], group: Any = None) -> list[Exchange]:
    """Return the exchanges of queries, and of keys and values, given the numbers of tokens on the ranks of a group."""
    ranks = len(lengths[0])
    heads = [heads_of(case, one, ranks)[:2] for one in range(ranks)]
    by_tensor = zip(zip(*heads, strict=True), lengths, strict=True)
    return [Exchange(rank, list(needed), held, group) for needed, held in by_tensor]


def lengths_of(case: Case, ranks: int) -> tuple[list[int], list[int]]:
    """Return the number of queries, and of keys, on each rank."""
    queries, keys = (
        [len(chunk(seqlen, rank, ranks)) for rank in range(ranks)] for seqlen in (case.seqlen_q, case.seqlen_kv)
    )
    return queries, keys


class Plan:
    """The heads of each rank, and the mask."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch
        import torch.distributed as dist

        rank, ranks = dist.get_rank(), dist.get_world_size()
        self.of_q, self.of_kv = exchanges(case, rank, lengths_of(case, ranks))
        self.order = heads_of(case, rank, ranks)[2]
        self.is_causal = case.mask == "causal" and case.diagonal_offset == 0
        self.mask: Tensor | None = None
        if case.mask != "none" and not self.is_causal:
            hidden = ~torch.from_numpy(dense_mask(case))
            self.mask = torch.zeros(hidden.shape, dtype=operands.q.dtype).masked_fill(hidden, -torch.inf)


ulysses.prepare(Plan)


@ulysses.tokens
def tokens(case: Case, seqlen: int, rank: int, ranks: int) -> range:
    """Return neighbouring tokens, whatever the mask, as all ranks see whole sequences."""
    return chunk(seqlen, rank, ranks)


@ulysses.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the ranks cannot share the heads of the case, or ``None``."""
    import torch.distributed as dist

    return too_few_heads(case, dist.get_world_size()) or too_short(case, 1, dist.get_world_size())


def too_few_heads(case: Case, ranks: int) -> str | None:
    """Return why ``ranks`` ranks cannot share the heads, or ``None``."""
    return f"{case.heads_q} heads of queries cannot be shared by {ranks} ranks" if case.heads_q % ranks else None


@ulysses.sends
def sends(case: Case, ranks: int) -> list[Sends]:
    """Return the messages: queries, keys, values and output, and in a backward pass the gradients of all four."""
    return exchanged(case, [exchanges(case, 0, lengths_of(case, ranks))])


def exchanged(case: Case, groups: list[list[Exchange]]) -> list[Sends]:
    """Return all all-to-alls of a call in all groups of ranks; they do not overlap with computation."""
    rows = sum(exchange.sent() for group in groups for exchange in group)
    passes = 2 if case.mode == "forward_backward" else 1
    once = 2 * case.batch * case.head_dim * ITEM_BYTES[case.dtype] * rows
    return [Sends(bytes=passes * once, rounds=passes * 4)] if rows else []
