"""Tracks the running modules and their names: ``nn.Module.__call__`` is replaced while calls are intercepted.

A global forward hook would do the same, but makes torch take the slow path in each module's call.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module


class Modules:
    """The running modules of each thread, outermost first, and the names of modules seen so far."""

    def __init__(self) -> None:
        self.met: set[type[Module]] = set()
        """Classes of modules within which attention was called."""
        self._running = threading.local()
        self._names: weakref.WeakKeyDictionary[Module, str] = weakref.WeakKeyDictionary()

    def stack(self) -> list[Module]:
        """Return this thread's running modules, outermost first."""
        if not hasattr(self._running, "stack"):
            self._running.stack = []
        stack: list[Module] = self._running.stack
        return stack

    def name(self, module: Module | None = None) -> str | None:
        """Return the name of a module, by default the innermost running one; ``None`` if none runs."""
        stack = self.stack()
        if module is None:
            if not stack:
                return None
            module = stack[-1]
        if module not in self._names:
            self.met.update(map(type, stack))
            for outer in stack:  # the outermost that contains it
                known = {part: path for path, part in outer.named_modules()}
                if module in known:
                    for part, path in known.items():
                        self._names.setdefault(part, path.replace("_orig_mod.", "") or type(part).__name__)
                    break
            else:
                self._names[module] = type(module).__name__
        return self._names[module]

    @contextlib.contextmanager
    def watched(self, around_outermost: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[None]:
        """Track modules within the block, and wrap outermost calls, in any thread, in a context."""
        from torch import nn

        original = nn.Module.__call__
        stack_of = self.stack

        def call(module: Module, *args: Any, **kwargs: Any) -> Any:
            stack = stack_of()
            stack.append(module)
            try:
                if len(stack) > 1:
                    return original(module, *args, **kwargs)
                with around_outermost():
                    return original(module, *args, **kwargs)
            finally:
                stack.pop()

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]
