"""Compares a model with an implementation to the unchanged model: its outputs and its wall time."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import torch

from attnbench.capturing.clock import wait_for_devices
from attnbench.errors import UsageError
from attnbench.interception import intercept
from attnbench.interception.described.spec import Reason
from attnbench.put_back.known import KnownCalls
from attnbench.put_back.moves import SEEDS, judged
from attnbench.put_back.outputs import equal_rows, float_tensors
from attnbench.put_back.sizes import blind_rows, relative_difference
from attnbench.put_back.use import Used
from attnbench.put_back.verified import Verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from attnbench.interception import AttentionCall
    from attnbench.registry.implementation import Implementation

    Model = Callable[[], object]


def verified(
    model: Model, implementation: Implementation, rounds: int, timed: Callable[[Model], float] | None = None
) -> Verified:
    """Run a model with its own attention, with an implementation, and with disturbed attention.

    ``timed`` runs the model and returns its seconds, by default those of the whole call.

    Raises:
        UsageError: if the implementation serves none of the calls, or the model returns no floating-point tensor.
    """
    known = KnownCalls(implementation)
    with contextlib.closing(known):
        with _same_random_numbers():
            original = float_tensors(model())
        if not original:
            raise UsageError("the model returns no tensor of floats to compare: return its logits, say")
        with _same_random_numbers(), Used(implementation, known) as used:
            replaced = float_tensors(model())
        if not used.calls:
            raise UsageError(str(used))
        if replaced.keys() != original.keys():
            raise UsageError("the model returns other outputs from call to call")
        disturbed, keep = _disturbed(model, known, original)
        moves = judged(original, replaced, disturbed, keep)
        original_s, replaced_s = _in_turns(model, Used(implementation, known), rounds, timed or _timed)
    return Verified(
        implementation=implementation.declaration.name,
        calls=used.calls,
        fallbacks=dict(used.fallbacks),
        moves=tuple(moves),
        original_s=tuple(original_s),
        replaced_s=tuple(replaced_s),
    )


def _disturbed(
    model: Model, known: KnownCalls, original: dict[str, Tensor]
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Return outputs of runs with errors added to attention; and the rows that count, for outputs where some do not."""
    sizes: list[float] = []
    found = []
    for seed in range(SEEDS):
        handler = _Disturbing(known, sizes, seed)
        with _same_random_numbers(), intercept(handler):
            found.append(float_tensors(model()))
        if found[-1].keys() != original.keys():
            raise UsageError("the model returns other outputs from call to call")
    keep: dict[str, Tensor] = {}
    if handler.has_blind_rows:
        with _same_random_numbers(), intercept(_Blinding(known)):
            blinded = float_tensors(model())
        for name, tensor in original.items():
            equal = equal_rows(blinded[name], tensor)
            if not bool(equal.all()):
                keep[name] = equal
    return found, keep


class _Disturbing:
    """A handler that adds normal errors to the model's own output, in calls that the implementation serves."""

    def __init__(self, known: KnownCalls, sizes: list[float], seed: int) -> None:
        self.has_blind_rows = False
        self._known, self._sizes, self._seed = known, sizes, seed
        self._calls = 0

    def __call__(self, call: AttentionCall) -> Tensor:
        ready = self._known.find(call)
        out = call.original()
        if isinstance(ready, Reason):
            return out
        self.has_blind_rows |= blind_rows(ready.case) is not None
        if self._calls == len(self._sizes):
            self._sizes.append(relative_difference(ready.case, call))
        size, self._calls = self._sizes[self._calls], self._calls + 1
        generator = torch.Generator(out.device).manual_seed(self._seed * 1_000_003 + self._calls)
        drawn = torch.randn(out.shape, generator=generator, device=out.device, dtype=torch.float32)
        kept = torch.float64 if out.dtype == torch.float64 else torch.float32
        rms = out.detach().to(kept).square().mean(-1, keepdim=True).sqrt()
        moved: Tensor = out + (size * rms * drawn).to(out.dtype)
        if moved.requires_grad:
            moved.register_hook(lambda gradient: gradient * (1 + size * drawn).to(gradient.dtype))  # type: ignore[no-untyped-call]  # torch's
        return moved


class _Blinding:
    """A handler that sets the model's own output to 0 for queries without visible keys, in calls that are served."""

    def __init__(self, known: KnownCalls) -> None:
        self._known = known

    def __call__(self, call: AttentionCall) -> Tensor:
        ready = self._known.find(call)
        out = call.original()
        blind = None if isinstance(ready, Reason) else blind_rows(ready.case)
        return out if blind is None else out.masked_fill(blind.to(out.device), 0.0)


def _in_turns(
    model: Model, used: Used, rounds: int, timed: Callable[[Model], float]
) -> tuple[list[float], list[float]]:
    """Return seconds of the unchanged model and with the implementation, run in alternating order."""
    original: list[float] = []
    replaced: list[float] = []
    for number in range(rounds):
        for is_replaced in (number % 2 == 0, number % 2 != 0):
            with _same_random_numbers(), used if is_replaced else contextlib.nullcontext():
                (replaced if is_replaced else original).append(timed(model))
    return original, replaced


def _timed(model: Model) -> float:
    wait_for_devices()
    start = time.perf_counter()
    result = model()
    wait_for_devices()
    del result
    return time.perf_counter() - start


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Seed torch's generator so that every run draws the same random numbers, for example in dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
