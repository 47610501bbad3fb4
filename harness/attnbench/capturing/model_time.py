"""Wall time of a model: of its outermost modules and of backward passes, from whichever thread."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from attnbench.capturing.clock import wait_for_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ModelTime:
    """Adds up the time in which a model runs; what several threads do at once counts once."""

    def __init__(self) -> None:
        self.looks: Callable[[], int] = int
        """How often capture has looked at a function of torch by now."""
        self.looks_within = 0
        """How many of these looks fell within the model's time."""
        self._looks_before = 0
        self._lock = threading.Lock()
        self._running = 0
        self._since_ns = 0
        self._ns = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        with self._lock:
            if self._running == 0:
                wait_for_devices()
                self._looks_before = self.looks()
                self._since_ns = time.perf_counter_ns()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    wait_for_devices()
                    self._ns += time.perf_counter_ns() - self._since_ns
                    self.looks_within += self.looks() - self._looks_before

    @property
    def is_running(self) -> bool:
        """Whether the model runs in some thread."""
        return self._running > 0

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._ns / 1e9
