"""Intercepts calls of torch's functions, including those that compute attention."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.jit._trace import is_tracing
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attnbench.interception.by_hand.chain import ByHand
from attnbench.interception.handler import ignore
from attnbench.interception.hooks.bodies import body_of
from attnbench.interception.hooks.sdpa import sdpa_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from attnbench.interception.call import AttentionCall
    from attnbench.interception.handler import Handler, Unmatched
    from attnbench.interception.hooks.modules import Modules


class Interceptor:
    """Passes each call to the handler once: functions within the handler or the original call are not inspected."""

    def __init__(self, handler: Handler, unmatched: Unmatched, modules: Modules) -> None:
        self.handler = handler
        self.unmatched = unmatched
        self.modules = modules
        self.functions = 0
        """Number of calls of torch's functions that were inspected."""
        self.own_ns = 0
        """Time spent on describing calls, in addition to the inspection of functions."""
        self._here = threading.local()

    @property
    def is_answering(self) -> bool:
        """Whether this thread is answering a call, or is tracing a program, which must not be disturbed."""
        return getattr(self._here, "answering", False) or is_tracing()  # type: ignore[no-untyped-call]  # torch's

    @contextlib.contextmanager
    def not_looking(self) -> Iterator[None]:
        """Do not intercept calls of this thread within the block."""
        before, self._here.answering = self.is_answering, True
        try:
            yield
        finally:
            self._here.answering = before

    @contextlib.contextmanager
    def own_time(self) -> Iterator[None]:
        """Add the time of the block to ``own_ns``."""
        before = time.perf_counter_ns()
        try:
            yield
        finally:
            self.own_ns += time.perf_counter_ns() - before

    def answer(self, call: AttentionCall) -> Tensor:
        """Return the handler's output for a call."""
        with self.not_looking():
            return self.handler(call)

    @contextlib.contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Intercept torch's functions in this thread; nested uses do nothing."""
        if getattr(self._here, "watching", False):
            yield
            return
        self._here.watching = True
        try:
            with _Mode(self):
                yield
        finally:
            self._here.watching = False


class _Mode(TorchFunctionMode):
    def __init__(self, interceptor: Interceptor) -> None:
        super().__init__()
        self._interceptor = interceptor
        self._by_hand = ByHand(interceptor)

    def __torch_function__(
        self, func: Callable[..., Any], _types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        named = kwargs or {}
        self._interceptor.functions += 1
        if self._interceptor.is_answering:
            return func(*args, **named)
        if func is functional.scaled_dot_product_attention:
            return self._sdpa(args, named)
        if func in _WITH_MORE_WITHIN:
            with self, self._heads_of(func, args, named):  # a mode is disabled within itself
                return _WITH_MORE_WITHIN[func](*args, **named)
        name = getattr(func, "__name__", "")
        if self._by_hand.wants(name):
            return self._by_hand.run(func, name, args, named)
        return func(*args, **named)

    @contextlib.contextmanager
    def _heads_of(self, func: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Set the number of heads while a function runs that merges batch and heads into one axis."""
        before = self._by_hand.heads
        if func is functional.multi_head_attention_forward:
            self._by_hand.heads = args[4] if len(args) > 4 else kwargs["num_heads"]
        try:
            yield
        finally:
            self._by_hand.heads = before

    def _sdpa(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        original = functional.scaled_dot_product_attention
        interceptor = self._interceptor
        try:
            with interceptor.own_time():
                call = sdpa_call(original, interceptor.modules.name(), *args, **kwargs)
        except (RuntimeError, ValueError, TypeError) as error:
            out = original(*args, **kwargs)  # raises if the program's call is wrong
            interceptor.unmatched("scaled_dot_product_attention", str(error))
            return out
        query = args[0] if args else kwargs["query"]
        out = interceptor.answer(call)
        return out if query.dim() == 4 else out.reshape(*query.shape[:-1], out.shape[-1])


def seconds_of_a_look(tries: int = 2000) -> float:
    """Measure how much longer a call of a torch function takes if it is inspected, in seconds."""
    from attnbench.interception.hooks.modules import Modules

    x = torch.zeros(1)

    def take() -> float:
        before = time.perf_counter()
        for _ in range(tries):
            x.dim()
        return (time.perf_counter() - before) / tries

    plain = min(take() for _ in range(3))
    with _Mode(Interceptor(lambda call: call.original(), ignore, Modules())):
        return max(0.0, min(take() for _ in range(3)) - plain)


_WITH_MORE_WITHIN: dict[object, Callable[..., Any]] = {
    function: body_of(function) for function in (functional.multi_head_attention_forward, torch.Tensor.backward)
}
"""Functions that compute attention through others, which a mode sees only if it is enabled within them."""
