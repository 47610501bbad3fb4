"""Open blocks of interception, which are nested, so that their replacements are undone in the opposite order."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TURN = threading.RLock()
_INSTALL: list[Callable[[], None]] = []
"""One function per open block, the outermost first, that installs its hooks in libraries imported by now."""


@contextlib.contextmanager
def opened(install: Callable[[], None]) -> Iterator[None]:
    """Register a block while it is open.

    ``install`` installs the block's hooks in libraries that the program has imported since the last time.

    Raises:
        UsageError: if another thread has an open block, which might end before this one.
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
    """Install the hooks of all open blocks in libraries imported by now."""
    for install in tuple(_INSTALL):
        install()
