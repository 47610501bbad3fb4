"""Blocks that intercept calls lie within each other: what they exchange is given back in the opposite order."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TURN = threading.RLock()
_INSTALL: list[Callable[[], None]] = []
"""One function for each open block, the outermost first: it exchanges what the program has imported by now."""


@contextlib.contextmanager
def opened(install: Callable[[], None]) -> Iterator[None]:
    """Keep a block open.

    ``install`` exchanges what the program has imported by now, and was not exchanged before.

    Raises:
        UsageError: when a block of another thread is open, which may end before this one.
    """
    if not _TURN.acquire(blocking=False):
        raise UsageError(
            "attnbench.capture or attnbench.use is open in another thread: one thread at a time; what other threads "
            "compute is seen from there"
        )
    try:
        _INSTALL.append(install)
        try:
            yield
        finally:
            _INSTALL.remove(install)
    finally:
        _TURN.release()


def install_imported() -> None:
    """Exchange what the program has imported by now, of each open block."""
    for install in tuple(_INSTALL):
        install()
