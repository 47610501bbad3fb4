"""Signals that ask this process to end: Ctrl-C, SIGTERM (of ``kill``), SIGHUP (of a terminal that was closed)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_SAME_REQUEST_S = 5.0
"""A terminal that is closed sends SIGHUP twice; what follows so soon does not disturb what the first one set off."""


class Interrupted(KeyboardInterrupt):
    """A signal asks to end. ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells count: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)


def raise_signals() -> None:
    """From now on these signals raise :class:`Interrupted`; one that is ignored, as under ``nohup``, stays ignored."""
    last = -float("inf")

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal last
        now = time.monotonic()
        if now - last > _SAME_REQUEST_S:
            last = now
            raise Interrupted(number)

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(one, handler)
