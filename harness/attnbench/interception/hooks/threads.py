"""Follows the threads that a program starts, so that attention outside of modules is intercepted there, too."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def started_threads(around: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[None]:
    """Run each thread that is started within the block in a context."""
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        run = thread.run

        def within() -> None:
            with around():
                run()

        thread.run = within  # type: ignore[method-assign]
        original(thread)

    threading.Thread.start = start  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
