"""Lets an implementation compute a model's attention while a block runs."""

from __future__ import annotations

import collections
import contextlib
import math
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.put_back.chosen import chosen
from attnbench.units import count
from attnbench.untrusted.printable import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from torch import Tensor

    from attnbench.interception import AttentionCall
    from attnbench.interception.kind import Kind
    from attnbench.put_back.known import KnownCalls
    from attnbench.put_back.ready import Delivered
    from attnbench.registry.implementation import Implementation

_COMPUTING: ContextVar[bool] = ContextVar("an implementation computes", default=False)
"""Whether an implementation computes: an outer ``use`` ignores attention that the implementation itself calls."""


class Used:
    """``with attnbench.use(...) as used``: the block, and counts of the calls that the implementation has served.

    Blocks may be nested: the innermost comes first, and calls that it does not serve pass to the next.
    """

    def __init__(self, implementation: Implementation, known: KnownCalls | None = None) -> None:
        """``known`` is a cache to use and keep beyond the block; ``None`` creates one for the block."""
        self.implementation = implementation
        """The implementation that computes."""
        self.calls = 0
        """Attention calls that it has computed."""
        self.fallbacks: collections.Counter[str] = collections.Counter()
        """Calls that were left to the model, by reason."""
        self._given, self._known = known, known
        self._block: contextlib.ExitStack | None = None
        self._delivered: Delivered | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        from attnbench.interception import intercept
        from attnbench.put_back.known import KnownCalls
        from attnbench.put_back.ready import Delivered

        if self._block is not None:
            raise UsageError("this attnbench.use(...) is in use already: make another one")
        with contextlib.ExitStack() as stack:
            if self._given is None:
                self._known = KnownCalls(self.implementation)
                stack.callback(self._known.close)
            stack.enter_context(_threads_of_numba(self.implementation))
            stack.enter_context(intercept(self.answer, self._unmatched, at_once=self.at_once))
            self._delivered = Delivered(self.implementation.declaration.name)
            self._block = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block, self._known = self._block, None, self._given
        assert block is not None
        block.__exit__(kind, error, trace)

    def answer(self, call: AttentionCall) -> Tensor:
        """Return the output of a call: the implementation's if it serves the call, else the model's own."""
        from attnbench.interception.autocast import autocast_off

        if _COMPUTING.get():
            return call.original()
        assert self._known is not None
        token = _COMPUTING.set(True)
        try:
            with _as_in_a_worker(), autocast_off(call.q.device.type):
                ready = self._known.find(call)
                out = ready(call.q, call.k, call.v) if callable(ready) else None
        finally:
            _COMPUTING.reset(token)
        if not callable(ready):
            return self._left(call, ready.sentence)
        if out is None or not self._accepted(out, call.q, call.k, call.v):
            return self._left(call, "it returned NaN or infinity")
        return out

    def at_once(self, kind: Kind) -> Tensor | None:
        """Return the output of a call like an earlier served one; ``None`` if the call must be described first."""
        if _COMPUTING.get() or self._known is None:
            return None
        ready = self._known.like_earlier(kind)
        if ready is None:
            return None
        q, k, v = kind.tensors[:3]
        token = _COMPUTING.set(True)
        try:
            with _as_in_a_worker():
                out = ready(q, k, v)
        finally:
            _COMPUTING.reset(token)
        return out if self._accepted(out, q, k, v) else None

    def _accepted(self, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Count an output, and return whether to pass it on to the model.

        Raises:
            PutBackError: if it overwrites an earlier output that the model still holds.
        """
        assert self._delivered is not None
        with self._lock:
            self._delivered.add(out, (q, k, v))
            # A finite sum shows that most outputs are finite. On a GPU, checking would wait for the device.
            if out.is_cpu and not math.isfinite(out.sum().item()) and not bool(out.isfinite().all()):
                return False
            self.calls += 1
        return True

    def _left(self, call: AttentionCall, reason: str) -> Tensor:
        with self._lock:
            self.fallbacks[reason] += 1
        return call.original()

    def _unmatched(self, what: str, reason: str) -> None:
        if _COMPUTING.get():
            return
        with self._lock:
            self.fallbacks[f"{what} is not understood: {reason}"] += 1

    def __str__(self) -> str:
        name, left = self.implementation.declaration.name, sum(self.fallbacks.values())
        said = f"{name} computed {self.calls:,} of {count(self.calls + left, 'attention call')}"
        reasons = [f"  {n:,} left to the model: {in_one_line(reason)}" for reason, n in self.fallbacks.most_common()]
        return "\n".join([said, *reasons])

    __repr__ = __str__


def use(implementation: str | Implementation, *, plugin: str | None = None) -> Used:
    """Let an implementation compute a model's attention while a block runs: ``with attnbench.use("numba/flash"):``.

    Seen is what :func:`attnbench.capture` sees. Calls that the implementation does not declare, or refuses, are left to
    the model, and counted with the reason. Gradients come from its own backward pass, or from torch's autograd where
    it has none and computes in torch. What it prepares is kept for the calls of the block that are alike.

    Args:
        implementation: its name, or what ``@attention(...)`` or :func:`attnbench.module` made.
        plugin: the file that defines it, where it is one of your own.

    Returns:
        A context manager, whose value counts ``calls`` and ``fallbacks``; print it.

    Raises:
        UsageError: when there is no such implementation, it cannot run here, or, as the block is entered, a block of
            another thread is open.
    """
    return Used(chosen(implementation, plugin))


def _as_in_a_worker() -> contextlib.AbstractContextManager[object]:
    """Return a context in which none of the program's torch function modes is active, and compiling is enabled."""
    import torch

    unseen = torch._C.DisableTorchFunction()  # noqa: SLF001 - there is no public way
    if "torch._dynamo.eval_frame" not in sys.modules:  # it takes seconds to import
        return unseen
    stack = contextlib.ExitStack()
    stack.enter_context(unseen)
    stack.enter_context(torch.compiler.set_stance("default"))  # where calls are intercepted, a model runs uncompiled
    return stack


@contextlib.contextmanager
def _threads_of_numba(implementation: Implementation) -> Iterator[None]:
    """Give Numba as many threads as torch has, if the implementation needs Numba."""
    if not any(text.startswith("numba") for text in implementation.declaration.requires):
        yield
        return
    import numba
    import torch

    before = numba.get_num_threads()
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)
