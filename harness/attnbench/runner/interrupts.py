"""Signals that end this process: Ctrl-C, SIGTERM (from ``kill``), SIGHUP (from a closed terminal)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_SAME_REQUEST_S = 5.0
"""A closing terminal sends SIGHUP twice; signals within this time after the first are ignored."""


class Interrupted(KeyboardInterrupt):
    """A signal asks this process to end. ``number`` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """Return 128 plus the signal's number, as shells do: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)


def raise_signals() -> None:
    """Let these signals raise :class:`Interrupted`; an ignored one, as under ``nohup``, stays ignored."""
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
