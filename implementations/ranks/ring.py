"""Ring attention: keys and values go around a ring of ranks, while each rank keeps its queries.

Liu, Zaharia and Abbeel, "Ring Attention with Blockwise Transformers for Near-Infinite Context" (2023). At each step a
rank computes on the keys that it holds while it already sends them to the next rank: communication overlaps with
computation. Results over different keys are merged by their LSE. In the backward pass, the gradients of keys and values
travel along with them, one step behind, and are back at their rank after a full round.

Under a causal mask, early queries see few keys. So a rank holds an early and a late chunk of the sequence
("zig-zag"), and all ranks have equal work: of 2 ranks, rank 0 holds chunks 0 and 3, rank 1 chunks 1 and 2.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from attnbench import Sends, attention

from .blocks import ITEM_BYTES, SUPPORTED, blocks_between, chunk, merge, too_short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attnbench import Case, Operands


@attention("ring/torch", returns_lse=True, **SUPPORTED)
def ring(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Ring attention: keys and values go around, zig-zag where the mask is causal; torch's CPU kernel within."""
    import torch

    out = torch.zeros_like(q, dtype=plan.wide)
    lse = q.new_full(q.shape[:3], -torch.inf, dtype=plan.wide)
    kv = torch.stack([k, v])
    for step in range(plan.ring.ranks):
        source = plan.ring.source(step)
        is_last = step == plan.ring.ranks - 1
        arriving = None if is_last else plan.ring.pass_on(kv, plan.lengths[plan.ring.source(step + 1)])
        for block in plan.blocks[source]:
            rows = block.rows
            one, its_lse = block.attend(q, kv[0], kv[1])
            out[:, :, rows], lse[:, :, rows] = merge(out[:, :, rows], lse[:, :, rows], one, its_lse)
        if arriving is not None:
            kv = arriving.wait()
    return out.to(q.dtype), lse


@ring.backward
def ring_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Send keys and values around once more; their gradients follow one step behind, and accumulate on the way."""
    import torch

    dq = torch.zeros_like(q, dtype=plan.wide)
    kv, arriving_dkv = torch.stack([k, v]), None
    for step in range(plan.ring.ranks):
        source, following = plan.ring.source(step), plan.lengths[plan.ring.source(step + 1)]
        is_last = step == plan.ring.ranks - 1
        arriving = None if is_last else plan.ring.pass_on(kv, following)
        dkv = torch.zeros_like(kv, dtype=plan.wide)
        for block in plan.blocks[source]:
            dq_rows, dk_keys, dv_keys = block.gradients(dout, q, kv[0], kv[1], out, lse)
            dq[:, :, block.rows] += dq_rows
            dkv[0, :, :, block.keys] += dk_keys
            dkv[1, :, :, block.keys] += dv_keys
        if arriving_dkv is not None:
            dkv += arriving_dkv.wait()
        if arriving is not None:
            kv = arriving.wait()
        arriving_dkv = plan.ring.pass_on(dkv, following)
    dk, dv = arriving_dkv.wait() if arriving_dkv is not None else dkv
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


@dataclasses.dataclass(frozen=True)
class Ring:
    """The ranks of a process group as a ring, each of which sends to the next one."""

    rank: int
    ranks: int
    group: Any = None
    """The process group; ``None`` is the default one."""

    def source(self, step: int) -> int:
        """Return the rank whose keys are here after ``step`` steps."""
        return (self.rank - step) % self.ranks

    def pass_on(self, tensor: Tensor, length: int) -> Arriving:
        """Start sending to the next rank, and receiving ``length`` tokens from the one before."""
        import torch.distributed as dist

        received = tensor.new_empty(*tensor.shape[:-2], length, tensor.shape[-1])
        if self.ranks == 1:
            return Arriving(received.copy_(tensor), [])
        following, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        sending = dist.isend(tensor, group=self.group, group_dst=following)
        receiving = dist.irecv(received, group=self.group, group_src=before)
        return Arriving(received, [sending, receiving])


@dataclasses.dataclass(frozen=True)
class Arriving:
    """A tensor that is being received."""

    tensor: Tensor
    works: list[Any]

    def wait(self) -> Tensor:
        """Wait until the tensor has arrived, and the one sent has left; return the tensor."""
        for work in self.works:
            work.wait()
        return self.tensor


class Plan:
    """The blocks that this rank computes, by the rank that owns the keys."""

    def __init__(self, case: Case, ring: Ring) -> None:
        import torch

        self.ring = ring
        self.wide = torch.float64 if case.dtype == "float64" else torch.float32
        queries = tokens(case, case.seqlen_q, ring.rank, ring.ranks)
        keys = [tokens(case, case.seqlen_kv, source, ring.ranks) for source in range(ring.ranks)]
        self.lengths = [len(one) for one in keys]
        self.blocks = [blocks_between(case, queries, one) for one in keys]


@ring.prepare
def prepare(case: Case, operands: Operands) -> Plan:
    """Return the plan of this rank in the default process group."""
    import torch.distributed as dist

    return Plan(case, Ring(dist.get_rank(), dist.get_world_size()))


@ring.tokens
def tokens(case: Case, seqlen: int, rank: int, ranks: int) -> Sequence[int]:
    """Return an early and a late chunk under a causal mask, so that all ranks have equal work; else neighbours."""
    if "causal" not in case.mask_kinds:
        return chunk(seqlen, rank, ranks)
    return [*chunk(seqlen, rank, 2 * ranks), *chunk(seqlen, 2 * ranks - 1 - rank, 2 * ranks)]


@ring.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the ranks cannot share the case, or ``None``: a rank without tokens would have nothing to send."""
    import torch.distributed as dist

    ranks = dist.get_world_size()
    return too_short(case, 2, ranks)


@ring.sends
def sends(case: Case, ranks: int) -> list[Sends]:
    """Return the messages of a call, see :func:`hops`, with all heads."""
    return hops(case, ranks, case.heads_kv)


def hops(case: Case, ranks: int, heads: int) -> list[Sends]:
    """Return the messages: ``ranks - 1`` hops of keys and values, ``ranks`` of their gradients (in 32 bits or more).

    All hops of the gradients except the last overlap with the computation of the step before.
    """
    if ranks == 1:
        return []
    item = ITEM_BYTES[case.dtype]
    numbers = 2 * case.batch * heads * case.seqlen_kv * case.head_dim
    hop, wide = numbers * item, numbers * max(4, item)
    each, passes = {"forward": (hop, 1), "backward": (hop + wide, 1), "forward_backward": (2 * hop + wide, 2)}[
        case.mode
    ]
    hidden = Sends(bytes=(ranks - 1) * each, rounds=passes * (ranks - 1), behind=(ranks - 1) / ranks)
    return [hidden] if case.mode == "forward" else [hidden, Sends(bytes=wide, rounds=1)]
