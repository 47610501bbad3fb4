"""Intercepts calls of torch's functions, including those that compute attention."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import overrides
from torch.jit._trace import is_tracing
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attnbench.interception.by_hand.chain import ByHand
from attnbench.interception.by_hand.products import PRODUCTS
from attnbench.interception.handler import ignore
from attnbench.interception.hooks.bodies import body_of
from attnbench.interception.hooks.sdpa import sdpa_call
from attnbench.interception.kind import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from attnbench.interception.call import AttentionCall
    from attnbench.interception.handler import Handler, Unmatched
    from attnbench.interception.hooks.modules import Modules
    from attnbench.interception.kind import AtOnce, Kind


class Interceptor:
    """Passes each call to the handler once: functions within the handler or the original call are not inspected."""

    def __init__(self, handler: Handler, unmatched: Unmatched, modules: Modules, at_once: AtOnce | None = None) -> None:
        self.handler = handler
        self.unmatched = unmatched
        self.modules = modules
        self.at_once = at_once
        self.functions = 0
        """Number of calls of torch's functions that were inspected."""
        self.own_ns = 0
        """Time spent on describing calls, in addition to inspecting functions."""
        self._is_closed = False
        self._here = threading.local()

    @property
    def is_answering(self) -> bool:
        """Whether functions of this thread are left alone: within an answer, while traced, or after closing."""
        return getattr(self._here, "answering", False) or self._is_closed or is_tracing()  # type: ignore[no-untyped-call]  # torch's

    def close(self) -> None:
        """Stop intercepting, also in threads that outlive the block."""
        self._is_closed = True

    @contextlib.contextmanager
    def not_looking(self) -> Iterator[None]:
        """Do not intercept calls of this thread within the block."""
        before, self._here.answering = getattr(self._here, "answering", False), True
        try:
            with self.mode_off():
                yield
        finally:
            self._here.answering = before

    def mode_off(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that disables this interceptor's mode if it is the thread's innermost, to save time."""
        top = overrides._get_current_function_mode()  # type: ignore[no-untyped-call]  # noqa: SLF001 - no public way
        is_own = isinstance(top, _Mode) and top.interceptor is self
        return overrides._pop_mode_temporarily() if is_own else contextlib.nullcontext()  # noqa: SLF001

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

    def answer_at_once(self, kind: Kind | None) -> Tensor | None:
        """Return the output of ``at_once`` for a call like an earlier one; ``None`` if there is none."""
        if self.at_once is None or kind is None:
            return None
        self._here.answering = True  # it is False here, as no call is intercepted within an answer
        try:
            return self.at_once(kind)
        finally:
            self._here.answering = False

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
        self.interceptor = interceptor
        self._by_hand = ByHand(interceptor)

    def __torch_function__(
        self, func: Callable[..., Any], _types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        named = kwargs or {}
        self.interceptor.functions += 1
        name = getattr(func, "__name__", "")
        is_dull = name not in _LOOKED_AT and not self._by_hand.follows
        if is_dull or self.interceptor.is_answering:
            return func(*args, **named)
        if func is functional.scaled_dot_product_attention:
            return self._sdpa(args, named)
        if name in _OPERATORS:
            out = func(*args, **named)
            self.interceptor.unmatched(f"torch.ops.aten.{name}", "calls of torch's own operators are not followed")
            return out
        if func in _WITH_MORE_WITHIN:
            with self, self._heads_of(func, args, named):  # a mode is disabled within itself
                return _WITH_MORE_WITHIN[func](*args, **named)
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
        interceptor = self.interceptor
        is_asked = interceptor.at_once is not None and len(args) >= 3
        kind = kind_of(*args, *kwargs, *kwargs.values()) if is_asked else None
        at_once = interceptor.answer_at_once(kind)
        if at_once is not None:
            return at_once
        try:
            with interceptor.own_time():
                call = sdpa_call(original, interceptor.modules.name(), kind, *args, **kwargs)
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
"""Functions that may compute attention with inner calls, which a mode sees only if it is enabled within them."""
_OPERATORS = {
    f"{name}{overload}"
    for name in (
        "scaled_dot_product_attention",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    )
    for overload in ("", ".default")
}
_LOOKED_AT = {*PRODUCTS, *_OPERATORS, "softmax"} | {getattr(function, "__name__", "") for function in _WITH_MORE_WITHIN}
