"""Known-wrong implementations of several ranks: rings with one part replaced; ranks that die, hang or misbehave."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attnbench import Case, Implementation, Sends, attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DECLARED: dict[str, Any] = {
    "masks": ("none", "causal"),
    "modes": ("forward", "forward_backward"),
    "operators": ("attention",),
    "gqa": True,
    "ranks": True,
}


def copied() -> ModuleType:
    """Return a new copy of the ring's module, to be changed."""
    found = importlib.util.find_spec("attnbench.implementations.ranks.ring")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def ring_of(name: str, module: ModuleType, **replaced: Any) -> Implementation:
    """Return a ring in whose module these names are replaced; the harness uses its own ``tokens``."""
    tokens = module.tokens
    vars(module).update(replaced)
    made = attention(name, returns_lse=True, **DECLARED)(module.ring.call)
    made.backward(module.ring_backward)
    made.prepare(module.prepare)
    made.tokens(tokens)
    made.sends(module.sends)
    return made


def averaged(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Average two partial outputs, whatever the weights of their keys."""
    import torch

    is_first = torch.isneginf(lse)[..., None]
    return torch.where(is_first, more, (out + more) / 2), torch.logaddexp(lse, more_lse)


def swapped(case: Case, seqlen: int, rank: int, ranks: int) -> list[int]:
    """Return a rank's tokens with the late chunk before the early one."""
    held = list(copied().tokens(case, seqlen, rank, ranks))
    early = len(range(rank * seqlen // (2 * ranks), (rank + 1) * seqlen // (2 * ranks)))
    return [*held[early:], *held[:early]] if "causal" in case.mask_kinds else held


def without_last_step(case: Case, operands: Any) -> Any:
    """Leave out the keys that arrive last."""
    plan = copied().prepare(case, operands)
    plan.blocks[plan.ring.source(plan.ring.ranks - 1)] = []
    return plan


def without_gradients_of_others(case: Case, operands: Any) -> Any:
    """Do not return the gradients of other ranks' keys on the last rank."""
    plan = copied().prepare(case, operands)
    if plan.ring.rank == plan.ring.ranks - 1:
        for block in plan.blocks[0]:
            block.gradients = _only_dq(block.gradients)
    return plan


def _only_dq(gradients: Any) -> Any:
    def only(*args: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = gradients(*args)
        return dq, 0 * dk, 0 * dv

    return only


dropped_step = ring_of("mutant/dropped-step", copied(), prepare=without_last_step)
no_lse = ring_of("mutant/no-lse", copied(), merge=averaged)
halves_swapped = ring_of("mutant/halves-swapped", copied(), tokens=swapped)
gradient_kept = ring_of("mutant/gradient-kept", copied(), prepare=without_gradients_of_others)
miscounted = ring_of("mutant/miscounted", copied(), sends=lambda case, ranks: [Sends(bytes=7, rounds=1)])


def _trouble(name: str, trouble: Any) -> Implementation:
    """Return a ring whose rank 1 runs ``trouble`` in its first call, while the others wait for it."""
    module = copied()
    ring = module.ring

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Any) -> Any:
        if plan.ring.rank == 1:
            trouble()
        return ring(q, k, v, case, plan)

    made = attention(name, returns_lse=True, **DECLARED)(call)
    made.prepare(module.prepare)
    made.tokens(module.tokens)
    return made


def dies() -> None:
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps() -> None:
    """Sleep longer than any limit."""
    time.sleep(10_000)


def raises() -> None:
    """Raise an error on one rank alone."""
    raise ValueError("no more")


killed = _trouble("mutant/killed", dies)
asleep = _trouble("mutant/asleep", sleeps)
raising = _trouble("mutant/raising", raises)


def _conduct(name: str, ending: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Implementation:
    """Return a ring whose last rank returns ``ending`` of the output, q and k."""
    module = copied()

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Any) -> Tensor:
        out: Tensor = module.ring.call(q, k, v, case, plan)[0]
        return ending(out, q, k) if plan.ring.rank == plan.ring.ranks - 1 else out

    made = attention(name, **DECLARED)(call)
    made.prepare(module.prepare)
    made.tokens(module.tokens)
    made.sends(module.sends)
    return made


def writes_inputs(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Leave keys from the ring in the memory of the rank's own keys."""
    k.zero_()
    return out


def hands_out_input(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return the output in the memory of the queries."""
    return q.copy_(out)


@functools.cache
def _buffer(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.empty(shape)


def reuses_output(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return the same memory in all calls."""
    return _buffer(tuple(out.shape)).copy_(out)


def ends_later(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return before the output has been written."""
    import torch

    returned = torch.zeros_like(out)

    def finish() -> None:
        time.sleep(2e-3)
        returned.copy_(out)

    threading.Thread(target=finish).start()
    return returned


def returns_subclass(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return a tensor subclass that might compute when it is read."""
    import torch

    class Lazy(torch.Tensor):
        pass

    return out.as_subclass(Lazy)


conduct_writes_inputs = _conduct("conduct/writes-inputs", writes_inputs)
conduct_hands_out_input = _conduct("conduct/hands-out-input", hands_out_input)
conduct_reuses_output = _conduct("conduct/reuses-output", reuses_output)
conduct_ends_later = _conduct("conduct/ends-later", ends_later)
conduct_returns_subclass = _conduct("conduct/returns-subclass", returns_subclass)


def gathered(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """Return the output of a rank's queries over all keys, which two ranks exchange by collectives with a root."""
    import torch
    from torch import distributed as dist

    both = torch.cat([k, v], -1)
    parts = [torch.empty_like(both) for _ in range(2)]
    at_0 = parts if dist.get_rank() == 0 else None
    dist.gather(both, at_0, dst=0)
    dist.broadcast(whole := torch.stack(parts), src=0)
    dist.barrier()
    keys, values = torch.cat(list(whole), -2).tensor_split([k.shape[-1]], -1)
    return torch.nn.functional.scaled_dot_product_attention(q, keys, values, scale=case.scale)


_PLAIN: dict[str, Any] = {"operators": ("attention",), "ranks": True}
rooted = attention("rooted/gathered", **_PLAIN)(gathered)


@rooted.sends
def rooted_sends(case: Case, ranks: int) -> list[Sends]:
    """Return the sends: rank 1 sends its half to rank 0, which sends the whole back, in elements of 4 bytes."""
    half = 4 * case.batch * case.heads_kv * case.seqlen_kv // 2 * (case.head_dim + case.head_dim_v)
    return [Sends(bytes=(1 + 2) * half, rounds=2)]


def by_objects(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """Compute attention of all keys; ranks first send each other their numbers of keys as objects."""
    import torch
    from torch import distributed as dist

    held: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(held, {"keys": k.shape[2]})
    keys, values = ([x.new_empty(*x.shape[:2], one["keys"], x.shape[3]) for one in held] for x in (k, v))
    dist.all_gather(keys, k.contiguous())
    dist.all_gather(values, v.contiguous())
    return torch.nn.functional.scaled_dot_product_attention(
        q, torch.cat(keys, 2), torch.cat(values, 2), scale=case.scale
    )


objects = attention("rooted/objects", **_PLAIN)(by_objects)


def _holding(name: str, hook: Callable[[int, int, int], Any]) -> Implementation:
    """Return attention over a rank's own tokens, without communication."""

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        import torch

        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=case.scale)

    made = attention(name, **_PLAIN)(call)
    made.tokens(lambda case, seqlen, rank, ranks: hook(seqlen, rank, ranks))
    return made


holding_all = _holding("holding/all", lambda seqlen, rank, ranks: range(seqlen))
holding_too_few = _holding(
    "holding/too-few", lambda seqlen, rank, ranks: range(rank * seqlen // 2, rank * seqlen // 2 + 3)
)
holding_beyond = _holding("holding/beyond", lambda seqlen, rank, ranks: range(seqlen // 2 - 1, seqlen + rank))


def _last_rank(name: str, ending: Callable[[Tensor], Any]) -> Implementation:
    """Return an implementation like ``rooted/gathered`` whose rank 1 returns ``ending`` of the output."""

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Any:
        from torch import distributed as dist

        out = gathered(q, k, v, case)
        return ending(out) if dist.get_rank() == 1 else out

    return attention(name, **_PLAIN)(call)


share_of_a_head = _last_rank("share/of-a-head", lambda out: out[:, :1].clone())
share_in_float64 = _last_rank("share/in-float64", lambda out: out.double())
share_ends_well = _last_rank("share/ends-well", lambda out: os._exit(0))
